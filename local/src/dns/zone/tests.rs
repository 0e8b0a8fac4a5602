use super::*;
use crate::names::tests_support::{headless, import};
use model::ids::SiteId;

fn table(complete: bool) -> NameTable {
    let site: SiteId = "east".parse().expect("valid");
    let mut v6 = headless("data/six", &[("a", true)]);
    v6.groups[0].endpoints[0].reach = model::endpoint::Reach::Direct("fd00::1".parse().expect("valid"));
    let imports = [
        import("shop/cart", Some([127, 64, 0, 2].into()), &[80, 8080]),
        headless("data/db", &[("db.0", true), ("db.1", true), ("db.2", false)]),
        headless("data/none", &[]),
        v6,
    ];
    NameTable::new(site, complete, &imports)
}

/// Asks and prints code and records: `NXDOMAIN`, `NOERROR A 127.64.0.2`.
fn ask(table: &NameTable, name: &str, kind: &str) -> String {
    let name = Name::from_ascii(format!("{name}.")).expect("valid");
    let Some(answer) = answer(table, &name, kind.parse().expect("valid")) else {
        return "outside".to_owned();
    };
    if answer.code != ResponseCode::ServFail {
        assert!(answer.authoritative);
        assert_eq!(answer.answers.is_empty(), answer.authorities.len() == 1, "a negative answer has the SOA");
    }
    for record in answer.answers.iter().chain(&answer.authorities).chain(&answer.additionals) {
        assert!(record.ttl <= 5, "{record}");
        if let RData::SOA(soa) = &record.data {
            assert!(soa.minimum <= 5);
        }
    }
    let code = match answer.code {
        ResponseCode::NoError => "NOERROR",
        ResponseCode::NXDomain => "NXDOMAIN",
        ResponseCode::ServFail => "SERVFAIL",
        other => panic!("{other}"),
    };
    let records = answer.answers.iter().map(|record| format!(" {} {}", record.record_type(), record.data));
    format!("{code}{}", records.collect::<String>())
}

fn check(complete: bool, table_of: &[(&str, &str, &str)]) {
    let table = table(complete);
    for (name, kind, expected) in table_of {
        assert_eq!(ask(&table, name, kind), *expected, "{name} {kind}");
    }
}

#[test]
fn the_zone_is_as_the_specification_says() {
    let db = "db.data.svc.clusterset.local";
    let srv = format!("NOERROR SRV 0 100 6543 db-0.east.{db}. SRV 0 100 6543 db-1.east.{db}.",);
    check(
        true,
        &[
            ("dns-version.clusterset.local", "TXT", "NOERROR TXT 1.0.0"),
            ("dns-version.clusterset.local", "A", "NOERROR"),
            ("cart.shop.svc.clusterset.local", "A", "NOERROR A 127.64.0.2"),
            ("CART.shop.SVC.clusterset.local", "A", "NOERROR A 127.64.0.2"),
            ("cart.shop.svc.clusterset.local", "AAAA", "NOERROR"),
            ("cart.shop.svc.clusterset.local", "TXT", "NOERROR"),
            (
                "_http._tcp.cart.shop.svc.clusterset.local",
                "SRV",
                "NOERROR SRV 0 100 80 cart.shop.svc.clusterset.local.",
            ),
            ("_http._tcp.cart.shop.svc.clusterset.local", "A", "NOERROR"),
            ("_tcp.cart.shop.svc.clusterset.local", "SRV", "NOERROR"),
            ("_http._udp.cart.shop.svc.clusterset.local", "SRV", "NXDOMAIN"),
            ("_udp.cart.shop.svc.clusterset.local", "SRV", "NXDOMAIN"),
            // The unnamed port 8080 has no SRV record.
            ("_8080._tcp.cart.shop.svc.clusterset.local", "SRV", "NXDOMAIN"),
            (db, "A", "NOERROR A 10.0.0.0 A 10.0.0.1"),
            (db, "AAAA", "NOERROR"),
            ("db-0.east.db.data.svc.clusterset.local", "A", "NOERROR A 10.0.0.0"),
            ("db-2.east.db.data.svc.clusterset.local", "A", "NXDOMAIN"),
            ("_http._tcp.db.data.svc.clusterset.local", "SRV", &srv),
            ("six.data.svc.clusterset.local", "AAAA", "NOERROR AAAA fd00::1"),
            ("six.data.svc.clusterset.local", "A", "NOERROR"),
            ("none.data.svc.clusterset.local", "A", "NXDOMAIN"),
            ("shop.svc.clusterset.local", "A", "NOERROR"),
            ("svc.clusterset.local", "A", "NOERROR"),
        ],
    );
}

#[test]
fn names_that_must_not_exist_do_not() {
    for complete in [true, false] {
        check(
            complete,
            &[
                ("east.cart.shop.svc.clusterset.local", "A", "NXDOMAIN"),
                ("east.db.data.svc.clusterset.local", "A", "NXDOMAIN"),
                ("db-0.east.cart.shop.svc.clusterset.local", "A", "NXDOMAIN"),
                ("a.b.c.d.e.svc.clusterset.local", "A", "NXDOMAIN"),
                ("cart.shop.clusterset.local", "A", "NXDOMAIN"),
                ("x.clusterset.local", "A", "NXDOMAIN"),
                ("c_rt.shop.svc.clusterset.local", "A", "NXDOMAIN"),
                ("*.shop.svc.clusterset.local", "A", "NXDOMAIN"),
            ],
        );
    }
}

#[test]
fn an_unknown_name_is_a_failure_until_all_names_are_known() {
    let unknown = [
        ("new.shop.svc.clusterset.local", "A"),
        ("new.other.svc.clusterset.local", "AAAA"),
        ("other.svc.clusterset.local", "A"),
        ("_http._tcp.new.shop.svc.clusterset.local", "SRV"),
        ("_tcp.new.shop.svc.clusterset.local", "SRV"),
        ("a.east.new.shop.svc.clusterset.local", "A"),
        ("db-9.east.db.data.svc.clusterset.local", "A"),
        ("none.data.svc.clusterset.local", "A"),
        ("cart.shop.svc.north.meshfed.internal", "A"),
    ];
    for (name, kind) in unknown {
        check(true, &[(name, kind, "NXDOMAIN")]);
        check(false, &[(name, kind, "SERVFAIL")]);
    }
    check(false, &[("cart.shop.svc.clusterset.local", "A", "NOERROR A 127.64.0.2")]);
}

#[test]
fn a_name_that_pins_a_site_exists_outside_the_zone() {
    check(
        true,
        &[
            ("cart.shop.svc.west.meshfed.internal", "A", "NOERROR"),
            ("cart.shop.svc.east.meshfed.internal", "A", "NXDOMAIN"),
            ("svc.west.meshfed.internal", "A", "NOERROR"),
            ("x.y.west.meshfed.internal", "A", "NXDOMAIN"),
        ],
    );
}

#[test]
fn other_names_are_outside() {
    check(
        true,
        &[
            ("example.com", "A", "outside"),
            ("notclusterset.local", "A", "outside"),
            ("local", "A", "outside"),
            ("cart.shop.svc.cluster.local", "A", "outside"),
            ("internal", "A", "outside"),
        ],
    );
    let table = table(true);
    assert!(ask(&table, "clusterset.local", "SOA").starts_with("NOERROR SOA ns.dns.clusterset.local."));
    assert!(ask(&table, "meshfed.internal", "SOA").starts_with("NOERROR SOA ns.dns.meshfed.internal."));
    assert_eq!(ask(&table, "clusterset.local", "NS"), "NOERROR");
}
