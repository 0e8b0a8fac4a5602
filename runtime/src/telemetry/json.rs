//! Logs for programs: one JSON document a line.

use serde::Serialize;
use serde_json::{Map, Value};
use std::error::Error;
use std::fmt;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

#[derive(Serialize)]
struct Document<'a> {
    time: &'a str,
    level: &'a str,
    target: &'a str,
    message: &'a str,
    fields: &'a Map<String, Value>,
}

/// One line of the log, for what is not an event of the program: its last words, or its progress.
pub fn document(level: &str, target: &str, message: &str) -> String {
    written(level, target, message, &Map::new())
}

fn written(level: &str, target: &str, message: &str, fields: &Map<String, Value>) -> String {
    let mut time = String::new();
    // It fails only where the text cannot be written to, which a `String` always can.
    let _ = SystemTime.format_time(&mut Writer::new(&mut time));
    let document = Document { time: &time, level, target, message, fields };
    serde_json::to_string(&document).unwrap_or_default()
}

/// Writes events as documents.
pub(super) struct Documents;

impl<S, N> FormatEvent<S, N> for Documents
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let (level, target) = (event.metadata().level().as_str(), event.metadata().target());
        writeln!(writer, "{}", written(level, target, &fields.message, &fields.fields))
    }
}

/// The fields of one event.
#[derive(Default)]
struct Fields {
    message: String,
    fields: Map<String, Value>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        match (field.name(), value.into()) {
            ("message", Value::String(message)) => self.message = message,
            (name, value) => drop(self.fields.insert(name.to_owned(), value)),
        }
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.put(field, super::chain(value).to_string());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    /// What a subscriber has written.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("no panic").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn every_event_is_one_document_on_a_line() {
        let written = Written::default();
        let writer = written.clone();
        let subscriber =
            tracing_subscriber::fmt().with_writer(move || writer.clone()).event_format(Documents).finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(peer = "we\"st", streams = 3, up = true, "two\nlines");
            tracing::warn!(seen = ?Some(1), "again");
        });
        let text = String::from_utf8(written.0.lock().expect("no panic").clone()).expect("text");
        let lines: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("a document")).collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert_eq!(lines[0]["message"], "two\nlines");
        assert_eq!(lines[0]["level"], "INFO");
        assert_eq!(lines[0]["fields"]["peer"], "we\"st");
        assert_eq!(lines[0]["fields"]["streams"], 3);
        assert_eq!(lines[0]["fields"]["up"], true);
        assert_eq!(lines[1]["fields"]["seen"], "Some(1)");
        assert!(lines[0]["time"].as_str().is_some_and(|time| time.ends_with('Z')), "{text}");
        assert!(lines[0]["target"].as_str().is_some_and(|target| target.contains("telemetry")), "{text}");
    }

    #[test]
    fn last_words_are_a_document_too() {
        let line: Value = serde_json::from_str(&document("ERROR", "meshfed", "a\nb")).expect("a document");
        assert_eq!((&line["level"], &line["message"]), (&"ERROR".into(), &"a\nb".into()));
    }
}
