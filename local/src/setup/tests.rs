use super::*;
use std::net::Ipv4Addr;

fn setup() -> Setup {
    Setup {
        range: VipRange { base: Ipv4Addr::new(127, 70, 0, 0) },
        redirect: "127.0.3.1:15001".parse().expect("valid"),
        dns: Some("127.0.3.1:15053".parse().expect("valid")),
        root: PathBuf::from("/"),
        resolved: true,
        systemd: true,
    }
}

#[test]
fn the_script_redirects_the_range_of_the_process_for_programs_of_the_host() {
    let script = setup().script();
    assert!(script.contains("ip daddr 127.70.0.0/16 meta l4proto tcp dnat to 127.0.3.1:15001"), "{script}");
    assert!(script.contains("type nat hook output"), "{script}");
    assert!(script.starts_with("table ip meshfed\ndelete table ip meshfed\n"), "it can be run again");
}

#[test]
fn the_plan_is_said_in_words() {
    let words: Vec<String> = setup().plan().iter().map(Step::to_string).collect();
    assert_eq!(
        words,
        [
            "write /etc/meshfed/redirect.nft",
            "run `nft -f -`",
            "write /etc/systemd/system/meshfed-redirect.service",
            "run `systemctl daemon-reload`",
            "run `systemctl enable meshfed-redirect.service`",
            "write /etc/systemd/resolved.conf.d/meshfed.conf",
            "run `systemctl restart systemd-resolved.service`",
        ]
    );
    assert!(setup().by_hand().is_empty());
}

#[test]
fn everything_that_is_written_is_removed_again() {
    let setup = setup();
    let removed: Vec<PathBuf> = setup
        .plan_revert()
        .into_iter()
        .filter_map(|step| match step {
            Step::Remove { path } => Some(path),
            Step::Write { .. } | Step::Run { .. } => None,
        })
        .collect();
    for step in setup.plan() {
        if let Step::Write { path, .. } = step {
            assert!(removed.contains(&path), "{}", path.display());
        }
    }
}

#[test]
fn the_drop_in_sends_only_names_of_the_mesh() {
    let text = setup().drop_in().expect("there is a DNS port");
    assert!(text.contains("DNS=127.0.3.1:15053\nDomains=~clusterset.local ~meshfed.internal\n"), "{text}");
    assert_eq!(Setup { dns: None, ..setup() }.drop_in(), None);
}

#[test]
fn without_systemd_a_person_is_told_what_to_do() {
    let setup = Setup { resolved: false, systemd: false, ..setup() };
    assert_eq!(setup.plan().len(), 2);
    let notes = setup.by_hand();
    assert!(
        notes[0].contains("forward clusterset.local and meshfed.internal to 127.0.3.1:15053"),
        "{notes:?}"
    );
    assert!(notes[1].contains("nft -f /etc/meshfed/redirect.nft"), "{notes:?}");
}

#[test]
fn a_setup_with_other_settings_is_not_this_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let setup = Setup { root: folder.path().to_owned(), ..setup() };
    assert!(!setup.is_applied());
    std::fs::create_dir_all(folder.path().join("etc/meshfed")).expect("made");
    std::fs::write(setup.script_path(), setup.script()).expect("written");
    assert!(setup.is_applied());
    let other = Setup { redirect: "127.0.3.1:15002".parse().expect("valid"), ..setup };
    assert!(!other.is_applied());
}
