//! What `meshfed` alone prints: the commands by task, one example each.

use crate::render::style::Style;

const TASKS: &[(&str, &[(&str, &str)])] = &[
    ("see it work", &[("meshfed demo", "three sites under load; parts are killed")]),
    (
        "set up a site",
        &[
            ("meshfed init east --locality eu/fra", "make its directory, CA and context"),
            ("meshfed site east", "run it, in one process"),
            ("meshfed token agent vm-1 > vm-1.token", "let a VM or server join"),
            ("meshfed agent vm-1 --join vm-1.token", "run its agent"),
            ("meshfed gateway gw-1 --join gw-1.token", "one more gateway"),
            ("meshfed federation east", "the federation without a gateway"),
            ("meshfed context use east", "the site that commands talk to"),
        ],
    ),
    (
        "connect",
        &[
            ("meshfed link east west", "join two sites that you both administer"),
            ("meshfed link invite > east.invite", "join another team's (there: link accept)"),
            ("meshfed expose shop/cart --on vm-1 --port 8080", "make a program on a host an endpoint"),
            ("meshfed export shop/cart", "offer a service to linked sites"),
            ("meshfed apply -f failover.yaml", "write policies and other resources"),
            ("meshfed unlink west", "part again; also unexport, unexpose, delete"),
        ],
    ),
    (
        "look",
        &[
            ("meshfed status", "the site and its peers at a glance"),
            ("meshfed get services", "names, VIPs, where they are served"),
            ("meshfed describe service shop/cart", "all that is known of one"),
            ("meshfed explain shop/cart --from west", "where a request goes, and why"),
            ("meshfed events --watch", "what happens"),
            ("meshfed diagnose west", "what is wrong, and what to do"),
        ],
    ),
    (
        "operate",
        &[
            ("meshfed drain gateway gw-0", "move load away; also endpoint, site"),
            ("meshfed undrain gateway gw-0", "and back"),
            ("meshfed trust rotate", "a new root, step by step; also status, finish"),
            ("meshfed backup --to east.redb", "a copy of the site's store, while it runs"),
        ],
    ),
    (
        "try out",
        &[
            ("meshfed up topologies/examples/three-clouds.yaml", "a whole topology on this host"),
            ("meshfed chaos run one-way-cut", "rehearse a failure; also list, show, report"),
            ("meshfed topology render FILE --to FILE.svg", "draw a topology; also check, plan"),
            ("meshfed completion bash", "completions for your shell; also `version`"),
        ],
    ),
];

/// The map.
pub fn map(style: Style) -> String {
    let mut lines = vec![
        "meshfed joins services in different sites into one network of services.".to_owned(),
        "Every site keeps its own CA, its own store and its own control plane.".to_owned(),
    ];
    for (task, commands) in TASKS {
        lines.push(String::new());
        lines.push(style.bold(task));
        lines.extend(commands.iter().map(|(example, what)| format!("  {example:<50} {}", style.dim(what))));
    }
    lines.push(String::new());
    lines.push(
        "meshfed COMMAND --help says all about one; every command takes --context and -o json|yaml."
            .to_owned(),
    );
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Cli;
    use clap::CommandFactory;

    #[test]
    fn every_command_is_on_the_map_and_the_map_fits() {
        let text = map(Style::PLAIN);
        for command in Cli::command().get_subcommands().filter(|c| !c.is_hide_set()) {
            assert!(text.contains(command.get_name()), "{} is missing", command.get_name());
        }
        for line in text.lines() {
            assert!(line.chars().count() <= crate::render::table::WIDTH, "{line}");
        }
    }

    #[test]
    fn every_example_on_the_map_is_a_command_that_exists() {
        use clap::Parser;
        for (_, commands) in TASKS {
            for (example, _) in *commands {
                let words = example.split('>').next().unwrap_or_default().split_whitespace();
                if let Err(error) = Cli::try_parse_from(words) {
                    panic!("{example}: {error}");
                }
            }
        }
    }

    #[test]
    fn every_help_begins_with_an_example() {
        fn check(mut command: clap::Command, path: &str) {
            let help = command.render_long_help().to_string();
            let name = format!("{path} {}", command.get_name());
            if !path.is_empty() && !path.ends_with(" context") {
                assert!(
                    help.starts_with(&format!("Example: {}", &name[1..]))
                        || help.starts_with("Example: sudo"),
                    "{name}:\n{help}"
                );
            }
            for sub in command.get_subcommands().filter(|c| !c.is_hide_set()) {
                check(sub.clone(), &name);
            }
        }
        check(Cli::command(), "");
        Cli::command().debug_assert();
    }
}
