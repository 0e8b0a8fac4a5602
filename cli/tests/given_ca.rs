//! A site whose CA was there before it: made with openssl, as an organisation's or Istio's would be.

mod support;
mod world;

use std::path::{Path, PathBuf};
use std::process::Command;
use world::World;

/// Runs openssl in a folder; without it the test is skipped.
fn openssl(folder: &Path, args: &str) -> bool {
    let ran = Command::new("openssl").args(args.split(' ')).current_dir(folder).output();
    let Ok(ran) = ran else {
        println!("SKIPPED: given_ca: openssl is not installed");
        return false;
    };
    assert!(ran.status.success(), "openssl {args}: {}", String::from_utf8_lossy(&ran.stderr));
    true
}

/// A root, and beneath it an issuing CA, in the layout of Istio's `cacerts`; none: no openssl.
fn cacerts(world: &World, name: &str, key: &str) -> Option<PathBuf> {
    let folder = world.path(name);
    std::fs::create_dir(&folder).expect("made");
    let file = |name: &str| folder.join(name);
    std::fs::write(
        file("ca.ext"),
        "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\n",
    )
    .expect("written");
    let key = format!("-newkey {key} -nodes");
    let made = openssl(
        &folder,
        &format!("req -x509 {key} -keyout root-key.pem -out root-cert.pem -days 30 -subj /O=Root"),
    ) && openssl(
        &folder,
        &format!("req -new {key} -keyout ca-key.pem -out ca.csr -subj /O=Istio"),
    ) && openssl(
        &folder,
        "x509 -req -in ca.csr -CA root-cert.pem -CAkey root-key.pem -set_serial 7 -days 20 -extfile ca.ext -out ca-cert.pem",
    );
    if !made {
        return None;
    }
    let chain =
        ["ca-cert.pem", "root-cert.pem"].map(|name| std::fs::read_to_string(file(name)).expect("made"));
    std::fs::write(file("cert-chain.pem"), chain.concat()).expect("written");
    Some(folder)
}

const EC: &str = "ec -pkeyopt ec_paramgen_curve:prime256v1";

#[test]
fn two_sites_with_issuing_cas_of_one_root_are_linked_and_neither_trusts_the_root() {
    let world = World::new();
    let Some(east) = cacerts(&world, "east-ca", EC) else { return };
    let Some(_) = cacerts(&world, "west-ca", "rsa:2048") else { return };
    let _east = world.site("east", &["--cacerts", "east-ca"]);
    let _west = world.site("west", &["--ca-cert", "west-ca/ca-cert.pem", "--ca-key", "west-ca/ca-key.pem"]);
    let anchor = world.read("east/ca/ca.crt");
    let given = std::fs::read_to_string(east.join("ca-cert.pem")).expect("there");
    let body = |pem: &str| pem.lines().filter(|line| !line.starts_with('-')).collect::<String>();
    assert_eq!(body(&anchor), body(&given), "the issuing CA is the anchor, not the root above it");

    world.good(&["link", "east", "west"]);
    let (_echo, listen) = world.echo("east", "cart");
    let _vm = world.agent("east", "vm-1", &[]);
    let port = world.free_port();
    world.expose("east", "shop/cart", "vm-1", port, listen);
    world.served("west", "shop/cart", port);
}

#[test]
fn sites_that_share_a_ca_are_not_linked() {
    let world = World::new();
    let Some(_) = cacerts(&world, "one-ca", EC) else { return };
    let _east = world.site("east", &["--cacerts", "one-ca"]);
    let _west = world.site("west", &["--cacerts", "one-ca"]);
    world.refused(&["link", "east", "west"], &["share a CA key", "a CA of its own"]);
    for site in ["east", "west"] {
        assert!(world.links(site).links.is_empty(), "nothing was changed");
    }
}

#[test]
fn a_ca_that_cannot_be_used_is_refused_with_its_cause_and_nothing_is_made() {
    let world = World::new();
    let Some(folder) = cacerts(&world, "good", EC) else { return };
    let Some(other) = cacerts(&world, "other", EC) else { return };
    openssl(&folder, "pkey -in ca-key.pem -traditional -out sec1.pem");
    openssl(&folder, "x509 -req -in ca.csr -signkey ca-key.pem -days 20 -out no-ca.pem");
    std::fs::write(folder.join("cut.pem"), "-----BEGIN CERTIFICATE-----\nMIIB").expect("written");
    assert!(other.join("ca-key.pem").exists());
    for (certificate, key, says) in [
        ("good/ca-cert.pem", "other/ca-key.pem", "does not belong to its certificate"),
        ("good/cert-chain.pem", "good/ca-key.pem", "exactly one"),
        ("good/cut.pem", "good/ca-key.pem", "exactly one"),
        ("good/no-ca.pem", "good/ca-key.pem", "not the certificate of a CA"),
        ("good/ca-cert.pem", "good/sec1.pem", "openssl pkcs8 -topk8"),
        ("good/none.pem", "good/ca-key.pem", "none.pem cannot be used"),
    ] {
        let args = ["init", "east", "--address", "127.0.1.1", "--ca-cert", certificate, "--ca-key", key];
        world.refused(&args, &[says, "nothing was made"]);
        assert!(!world.path("east").exists(), "{certificate} {key}");
    }
    world.refused(&["init", "east", "--address", "127.0.1.1", "--cacerts", "none"], &["ca-cert.pem"]);
    assert!(world.run(&["init", "east", "--ca-cert", "good/ca-cert.pem"]).err.contains("--ca-key"));
}
