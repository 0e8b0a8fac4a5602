//! What the command line says when it is used the right way, and the wrong way.

mod support;

use support::Home;

#[test]
fn without_a_command_there_is_a_map() {
    let ran = Home::new().good(&[]);
    assert!(ran.out.contains("meshfed link east west"), "{}", ran.out);
    assert!(ran.out.lines().all(|line| line.chars().count() <= 100));
    assert_eq!(ran.err, "");
    assert!(!ran.out.contains('\x1b'), "no colours where there is no terminal");
}

#[test]
fn wrong_usage_is_exit_code_2_and_says_what_was_meant() {
    let home = Home::new();
    for (args, said) in [
        (&["lnik", "east", "west"][..], "link"),
        (&["link", "east"], "SITE"),
        (&["init", "East"], "only a-z, 0-9 and - may be used"),
        (&["init", "east", "--locality", "eu//fra"], "each part has 1 to 63 characters"),
        (&["init", "east", "--address", "here"], "--address"),
        (&["init", "east", "--addres", "127.0.0.1"], "--address"),
        (&["expose", "shop/cart", "--on", "vm-1", "--port", "0"], "it must be 1 to 65535"),
        (&["expose", "cart", "--on", "vm-1", "--port", "80"], "it must be NAMESPACE/NAME"),
        (&["expose", "shop/cart", "--on", "vm-1", "--port", "80", "--check", "udp"], "not a check"),
        (&["token", "agnet", "vm-1"], "agent"),
        (&["drain", "gatway", "gw-0"], "gateway"),
        (&["status", "--json", "-o", "yaml"], "cannot be used with"),
        (&["explain", "shop/cart:0"], "it must be 1 to 65535"),
        (&["apply"], "--file"),
    ] {
        let ran = home.run(args);
        assert_eq!(ran.code, 2, "meshfed {}\n{}", args.join(" "), ran.err);
        assert!(ran.err.contains(said), "meshfed {} should say `{said}`:\n{}", args.join(" "), ran.err);
        assert_eq!(ran.out, "");
    }
}

#[test]
fn help_begins_with_an_example_and_goes_to_standard_output() {
    let ran = Home::new().good(&["expose", "--help"]);
    assert!(ran.out.starts_with("Example: meshfed expose shop/cart --on vm-1 --port 8080"), "{}", ran.out);
}

#[test]
fn version_and_completions_are_results() {
    let home = Home::new();
    let version = env!("CARGO_PKG_VERSION");
    assert!(home.good(&["version"]).out.starts_with(&format!("meshfed {version}")));
    assert!(home.good(&["version", "--json"]).out.contains(&format!("\"version\": \"{version}\"")));
    assert!(home.good(&["version", "-o", "yaml"]).out.contains("version: "));
    assert!(home.good(&["completion", "bash"]).out.contains("_meshfed"));
}

#[test]
fn without_a_site_every_command_says_how_to_make_one() {
    let home = Home::new();
    for args in
        [&["status"][..], &["get", "services"], &["token", "agent", "vm-1"], &["link", "east", "west"]]
    {
        let ran = home.run(args);
        assert_eq!(ran.code, 1);
        assert!(
            ran.err.starts_with("error: no site is known here\n  do  make one with `meshfed init NAME`"),
            "{}",
            ran.err
        );
    }
}

#[test]
fn a_site_that_does_not_run_is_said_to_be_silent() {
    let home = Home::new();
    home.good(&["init", "east", "--address", "127.0.199.7"]);
    let ran = home.run(&["status"]);
    assert_eq!((ran.code, ran.out.as_str()), (1, ""));
    let directory = std::fs::canonicalize(home.path()).expect("there").join("east");
    let expected = format!(
        "error: east does not answer\n  because  127.0.199.7:15080/tcp: nobody listens (connection refused)\n  \
         do       start it with `meshfed site {}`\n",
        directory.display()
    );
    assert_eq!(ran.err, expected);
}

#[test]
fn a_mistake_in_a_resource_is_found_before_the_site_is_asked() {
    let home = Home::new();
    home.good(&["init", "east", "--address", "127.0.199.8"]);
    home.write(
        "policy.yaml",
        "apiVersion: meshfed.dev/v1alpha1\nkind: FailoverPolicy\nmetadata: { name: cart, namespace: shop }\nspec: { strikt: true }\n",
    );
    let ran = home.run(&["apply", "-f", "policy.yaml"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.starts_with("error: policy.yaml:4:9: unknown field `strikt`"), "{}", ran.err);
    assert!(ran.err.contains("did you mean `strict`?"), "{}", ran.err);
    let ran = home.run(&["apply", "-f", "nowhere.yaml"]);
    assert!(ran.err.contains("cannot use nowhere.yaml"), "{}", ran.err);
}

#[test]
fn a_topology_is_planned_and_its_mistakes_are_shown() {
    let home = Home::new();
    home.write("mine.yaml", "kind: Topology\nsites:\n  east:\n    localty: eu/fra\n");
    let ran = home.run(&["up", "mine.yaml"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.starts_with("error: mine.yaml:4:5: unknown field `localty`"), "{}", ran.err);
    home.write(
        "mine.yaml",
        "kind: Topology\nsites: { east: {}, west: {} }\nlinks: [{ between: [east, west] }]\n",
    );
    let ran = home.good(&["up", "mine.yaml", "--dry-run"]);
    assert!(ran.out.contains("link east – west"), "{}", ran.out);
}
