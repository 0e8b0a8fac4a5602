//! YAML and JSON of strangers: every resource and every body of the REST API is taken as it says, or refused with a
//! mistake at its place; a file cannot cost more than its size, and a mistake never repeats a file.

mod decoders;

use api::diagnostic::Diagnostic;
use api::resource;
use api::rest::error::ErrorBody;
use api::rest::status::StatusView;
use api::yaml::{self, FILE_MAX};
use decoders::*;
use hostile::{any_bytes, changed, changed_text, changes, is_readable, within};
use proptest::prelude::*;

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(250))]

    #[test]
    fn any_bytes_are_no_resource_and_the_mistake_is_readable(bytes in any_bytes()) {
        let text = String::from_utf8_lossy(&bytes);
        read_resources(&text);
        read_resources(&format!("apiVersion: meshfed.dev/v1alpha1\nkind: Service\nmetadata: {text}\n"));
        read_bodies(&bytes);
    }

    #[test]
    fn changed_resources_are_taken_as_they_say_or_the_mistake_is_readable(changes in changes()) {
        read_resources(&changed_text(RESOURCES, RESOURCES, &changes));
        for document in RESOURCES.split("---") {
            read_resources(&changed_text(document, RESOURCES, &changes));
        }
    }

    #[test]
    fn changed_bodies_are_taken_as_they_say_or_the_error_is_readable(
        which in any::<prop::sample::Index>(),
        other in any::<prop::sample::Index>(),
        changes in changes(),
    ) {
        read_bodies(&changed(which.get(&BODIES).as_bytes(), other.get(&BODIES).as_bytes(), &changes));
    }

    /// A command line shows what a federation answers, whoever answers there.
    #[test]
    fn a_changed_answer_is_shown_or_refused(
        place in any::<(usize, usize)>(),
        width in any::<usize>(),
        excerpt in proptest::collection::vec("\\PC{0,30}", 0..4),
        changes in changes(),
    ) {
        let mistake = Diagnostic {
            line: place.0,
            column: place.1,
            width,
            excerpt,
            ..Diagnostic::of_file("x.yaml", "it is wrong").help("mend it")
        };
        is_readable(&mistake.to_string());
        let body = ErrorBody { error: mistake.into() };
        let json = serde_json::to_string(&body).expect("written");
        let json = changed_text(&json, BODIES[2], &changes);
        if let Ok(body) = serde_json::from_str::<ErrorBody>(&json) {
            let shown: Vec<String> = body.error.diagnostics.iter().map(ToString::to_string).collect();
            prop_assert!(shown.iter().all(|shown| shown.len() <= json.len() + 2_000));
        }
        let _ = serde_json::from_str::<StatusView>(&json);
    }
}

#[test]
fn the_samples_that_are_changed_are_good_themselves() {
    assert_eq!(read_resources(RESOURCES).expect("good").len(), resource::Kind::ALL.len());
    for (at, body) in BODIES.iter().enumerate() {
        assert!(read_bodies(body.as_bytes())[at], "{body}");
    }
}

fn service(spec: &str) -> String {
    format!(
        "apiVersion: meshfed.dev/v1alpha1\nkind: Service\nmetadata: {{name: cart, namespace: shop}}\nspec: {spec}\n"
    )
}

#[test]
fn nesting_costs_no_more_than_a_mistake() {
    let deep =
        |open: &str, close: &str, depth: usize| format!("{}{}", open.repeat(depth), close.repeat(depth));
    for depth in [10, 60, 64, 65, 100, 1_000, 10_000, 100_000] {
        for nested in
            [deep("[", "]", depth), deep("{a: ", "}", depth), deep("- ", "", depth), deep("? ", "", depth)]
        {
            within("deep YAML", move || {
                read_resources(&nested);
                read_resources(&service(&nested));
                read_resources(&service(&format!("{{ports: {nested}}}")));
                read_resources(&format!("status: {nested}\n{}", service("{}")));
                read_bodies(nested.as_bytes());
            });
        }
        let json = deep("[", "]", depth);
        within("deep JSON", move || {
            read_bodies(format!(r#"{{"target": {json}}}"#).as_bytes());
            read_bodies(format!(r#"{{"workload": {json}}}"#).as_bytes());
        });
    }
}

#[test]
fn aliases_do_not_make_a_large_value_of_a_small_file() {
    // A text of 1 MiB, named a few hundred times.
    let long = "x".repeat(1 << 20);
    let anchors: String = (0..60).map(|n| format!("  a{n}: &a{n} x\n")).collect();
    let aliases: String = (0..300).map(|n| format!("  b{n}: *long\n")).collect();
    let bomb = format!(
        "apiVersion: meshfed.dev/v1alpha1\nkind: ServiceExport\nmetadata:\n name: a\n namespace: b\n labels:\n  long: &long {long}\n{anchors}{aliases}"
    );
    within("a bomb of one text", move || {
        let bytes: usize = read_resources(&bomb)
            .into_iter()
            .flatten()
            .flat_map(|one| one.metadata().labels.values().map(String::len).collect::<Vec<_>>())
            .sum();
        assert!(bytes <= 80 << 20, "{} MiB of a file of {} KiB", bytes >> 20, bomb.len() >> 10);
    });
    let doubled: String = (1..64).map(|n| format!("  - &l{n} [*l{}, *l{}]\n", n - 1, n - 1)).collect();
    let bomb = service(&format!("\n  x:\n  - &l0 [y, y]\n{doubled}"));
    within("a bomb of lists", move || {
        assert!(read_resources(&bomb).is_none());
        assert!(yaml::read::<serde_json::Value>("x.yaml", &bomb).is_err());
    });
}

#[test]
fn the_longest_files_end_in_a_mistake_of_bearable_length() {
    let long = "x".repeat(FILE_MAX - 1_000);
    for text in [
        long.clone(),
        format!("{long}: 1"),
        format!("\"{long}"),
        format!("a: {long}: b"),
        format!("[{}]", "a,".repeat(FILE_MAX / 2 - 500)),
        format!("{{{}}}", "a: b, ".repeat(FILE_MAX / 6 - 500)),
        "- ".repeat(FILE_MAX / 2),
        "&a ".repeat(FILE_MAX / 3),
        "a: b\n".repeat(FILE_MAX / 5),
        "'".repeat(FILE_MAX),
        "\t".repeat(FILE_MAX),
        "\u{1b}[2J".repeat(FILE_MAX / 4),
        "---\n".repeat(9_999),
        service(&format!("{{{}: 1}}", &long[..FILE_MAX / 2])),
        service(&format!("{{type: {}}}", &long[..FILE_MAX / 2])),
        service(&format!("{{ports: [{{port: 1, protocol: {}}}]}}", &long[..FILE_MAX / 2])),
        service(&format!("{}{{colour: 1}}", " ".repeat(FILE_MAX / 2))),
        service(&format!("{{ports: [{{port: 1}}],{}declaredTotal: 0}}", " ".repeat(FILE_MAX / 2))),
    ] {
        within("the longest file", move || assert!(read_resources(&text).is_none()));
    }
    for body in [format!(r#""{long}""#), format!(r#"{{"{long}": 1}}"#), format!(r#"{{"kind": "{long}"}}"#)] {
        within("the longest body", move || assert_eq!(read_bodies(body.as_bytes()), [false; 10]));
    }
}

#[test]
fn a_mistake_of_any_place_and_width_can_be_shown() {
    // As a federation may send it to a command line.
    let json = r#"{"file": "a", "line": 18446744073709551615, "column": 18446744073709551615, "message": "m", "help": "h",
        "excerpt": ["x", "y\u001b[2J"], "width": 18446744073709551615}"#;
    let mistake: Diagnostic = serde_json::from_str(json).expect("it is one");
    is_readable(&mistake.to_string());
    let mistake = Diagnostic { line: 1, column: 0, ..mistake };
    is_readable(&mistake.to_string());
}
