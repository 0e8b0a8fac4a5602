//! What an agent says while it runs.

use super::style::Style;
use connectors::connector::{InstanceReport, SourceReport};
use model::endpoint::Health;

/// A line for each workload that is new or differs, and for each that is gone.
pub fn changes(before: &SourceReport, now: &SourceReport, style: Style) -> Vec<String> {
    let find = |report: &SourceReport, one: &InstanceReport| {
        report.instances.iter().find(|i| i.service == one.service && i.endpoint == one.endpoint).cloned()
    };
    let mut lines = Vec::new();
    for instance in &now.instances {
        if find(before, instance).as_ref() != Some(instance) {
            lines.push(line(instance, style));
        }
    }
    for gone in before.instances.iter().filter(|one| find(now, one).is_none()) {
        lines.push(format!("workload {} {} is no longer here", gone.service, gone.endpoint));
    }
    if now.registered && !before.registered {
        lines.push("registered with the site".to_owned());
    }
    lines
}

fn line(instance: &InstanceReport, style: Style) -> String {
    let health = match instance.health {
        Health::Healthy => style.good("healthy"),
        Health::Unhealthy => style.bad("unhealthy"),
        Health::Draining => style.warn("draining"),
    };
    let why = match (&instance.refused, &instance.failure) {
        (Some(refused), _) => format!(", refused by the site: {refused}"),
        (None, Some(failure)) => format!(" ({failure})"),
        (None, None) => String::new(),
    };
    format!("workload {} {}: {health}{why}", instance.service, instance.endpoint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(health: Health, failure: Option<&str>) -> InstanceReport {
        InstanceReport {
            service: "shop/cart".parse().expect("valid"),
            endpoint: "vm-1".parse().expect("valid"),
            health,
            failure: failure.map(str::to_owned),
            refused: None,
        }
    }

    fn report(instances: Vec<InstanceReport>) -> SourceReport {
        SourceReport { known: true, registered: true, instances }
    }

    #[test]
    fn a_change_is_one_line_and_nothing_is_said_twice() {
        let good = report(vec![instance(Health::Healthy, None)]);
        let bad = report(vec![instance(Health::Unhealthy, Some("connection refused"))]);
        let lines = |before: &SourceReport, now: &SourceReport| changes(before, now, Style::PLAIN);
        let first = ["workload shop/cart vm-1: healthy", "registered with the site"];
        assert_eq!(lines(&SourceReport::default(), &good), first);
        assert!(lines(&good, &good).is_empty());
        assert_eq!(lines(&good, &bad), ["workload shop/cart vm-1: unhealthy (connection refused)"]);
        assert_eq!(lines(&bad, &report(vec![])), ["workload shop/cart vm-1 is no longer here"]);
    }
}
