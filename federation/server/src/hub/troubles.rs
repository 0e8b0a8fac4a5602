//! What is wrong with the sources of this process, as their connectors say it.

use super::Hub;
use api::Diagnostic;
use api::rest::status::Finding;
use model::ids::{EndpointId, Label};
use model::service::ServiceName;
use std::collections::BTreeMap;
use sync_core::source::SourceId;

/// What is wrong with a source: a mistake in its file, endpoints that are refused or fail their check.
///
/// Connectors say all of it again on each change; the default says that all is well.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SourceTrouble {
    /// Why the present content of its file is not in force.
    pub file: Option<Diagnostic>,
    /// There is an earlier content, and that stays in force.
    pub has_good: bool,
    /// Endpoints that the federation has refused, and why.
    pub refused: BTreeMap<(ServiceName, EndpointId), String>,
    /// Endpoints whose check fails, and what the last probe saw.
    pub failing: BTreeMap<(ServiceName, EndpointId), String>,
}

impl SourceTrouble {
    /// Where and what the mistake in the file is, on one line.
    fn mistake(file: &Diagnostic) -> String {
        match file.line {
            0 => format!("{}: {}", file.file, file.message),
            line => format!("{}:{line}:{}: {}", file.file, file.column, file.message),
        }
    }

    fn still_in_force(&self) -> &'static str {
        if self.has_good {
            "what was read from it before stays in force"
        } else {
            "nothing was read from it since the start, so nothing is withdrawn either"
        }
    }
}

/// What to do about a mistake in a file.
fn correct(file: &Diagnostic) -> String {
    let help = if file.help.is_empty() { String::new() } else { format!("{}: ", file.help) };
    format!("{help}correct the file; it is read again within a second")
}

impl Hub {
    /// A connector of this process says what is wrong with its source.
    pub fn source_trouble(&mut self, name: Label, trouble: SourceTrouble) {
        let subject = SourceId::Connector(name.clone()).to_string();
        let before = self.troubles.remove(&name).unwrap_or_default();
        match &trouble.file {
            Some(file) if before.file.as_ref() != Some(file) => {
                let what = format!("has a mistake: {}", SourceTrouble::mistake(file));
                self.events.note(&subject, what, trouble.still_in_force());
            }
            None if before.file.is_some() => {
                self.events.note(&subject, "is read again", "its file has no mistake any more");
            }
            Some(_) | None => {}
        }
        for ((service, id), why) in &trouble.refused {
            if before.refused.get(&(service.clone(), id.clone())) != Some(why) {
                self.events.note(&subject, format!("endpoint {id} of {service} is refused"), why);
            }
        }
        if trouble != SourceTrouble::default() {
            self.troubles.insert(name, trouble);
        }
    }

    /// What the last probe of an endpoint saw, where a connector of this process makes it.
    pub(super) fn last_probe(&self, service: &ServiceName, id: &EndpointId) -> Option<&str> {
        let key = (service.clone(), id.clone());
        self.troubles.values().find_map(|trouble| trouble.failing.get(&key)).map(String::as_str)
    }

    pub(super) fn find_troubles(&self, findings: &mut Vec<Finding>) {
        for (name, trouble) in &self.troubles {
            let subject = SourceId::Connector(name.clone()).to_string();
            if let Some(file) = &trouble.file {
                findings.push(Finding {
                    severity: "error".to_owned(),
                    subject: subject.clone(),
                    what: SourceTrouble::mistake(file),
                    why: trouble.still_in_force().to_owned(),
                    next: correct(file),
                });
            }
            findings.extend(trouble.refused.iter().map(|((service, id), why)| Finding {
                severity: "warning".to_owned(),
                subject: subject.clone(),
                what: format!("endpoint {id} of {service} is refused"),
                why: why.clone(),
                next: "correct its file, or what it contradicts".to_owned(),
            }));
        }
    }
}
