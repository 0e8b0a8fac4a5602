//! Reading YAML (and JSON, which is a part of it) with the place of every mistake.

use crate::diagnostic::Diagnostic;
use crate::problem::Problem;
use crate::suggest::nearest;
use crate::text::plain;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_saphyr::{Error, Options, Spanned};
use std::fmt;

/// Largest file that is read: 4 MiB, some ten thousand resources.
pub const FILE_MAX: usize = 4 << 20;
/// Most documents of one file.
pub const DOCUMENTS_MAX: usize = 10_000;

/// One document of a file, not yet read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// File, as the person named it.
    file: String,
    /// Lines of the file before this document.
    lines_before: usize,
    /// The text of the document alone.
    text: String,
}

/// Splits a file into its documents; those without content are left out.
///
/// # Errors
/// When the file is too large, or has too many documents.
pub fn documents(file: &str, text: &str) -> Result<Vec<Document>, Diagnostic> {
    if text.len() > FILE_MAX {
        return Err(Diagnostic::of_file(file, format!("the file has more than {} MiB", FILE_MAX >> 20))
            .help("split it into several files"));
    }
    // A byte order mark is no content, and would hide a `---` behind it.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut found = Vec::new();
    let mut current = Document { file: file.to_owned(), lines_before: 0, text: String::new() };
    for (number, line) in text.split_inclusive('\n').enumerate() {
        // `---` and `...` at the beginning of a line are never content (YAML 1.2.2, section 9.1.2).
        let rest = ["---", "..."].iter().find_map(|mark| line.strip_prefix(mark));
        let Some(rest) = rest.filter(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace)) else {
            current.text.push_str(line);
            continue;
        };
        found.push(std::mem::replace(
            &mut current,
            // What follows the marker on its line keeps its column.
            Document { file: file.to_owned(), lines_before: number, text: format!("   {rest}") },
        ));
        if found.len() > DOCUMENTS_MAX {
            return Err(Diagnostic::of_file(
                file,
                format!("the file has more than {DOCUMENTS_MAX} documents"),
            )
            .help("split it into several files"));
        }
    }
    found.push(current);
    found.retain(Document::has_content);
    Ok(found)
}

/// Reads a file that is one document.
///
/// # Errors
/// When it has none or several, or a value of it is wrong.
pub fn read<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, Diagnostic> {
    let mut documents = documents(file, text)?.into_iter();
    let Some(first) = documents.next() else {
        return Err(Diagnostic::of_file(file, "the file is empty"));
    };
    if let Some(second) = documents.next() {
        return Err(second
            .at((1, 1), 0)
            .message("a second document begins here")
            .help("only one is expected"));
    }
    first.read()
}

/// Writes a value as YAML, as `-o yaml` prints it.
///
/// # Errors
/// When the value cannot be written as YAML: a map with keys that are no scalars.
pub fn write<T: serde::Serialize>(value: &T) -> Result<String, Unwritable> {
    serde_saphyr::to_string(value).map_err(|error| Unwritable { reason: error.to_string() })
}

/// A value that has no form in YAML.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the value cannot be written as YAML: {reason}")]
pub struct Unwritable {
    /// Why, in the words of the serializer.
    pub reason: String,
}

impl Document {
    /// Reads the document as a `T`.
    ///
    /// # Errors
    /// The first mistake, with its place.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Diagnostic> {
        serde_saphyr::from_str_with_options(&self.text, options()).map_err(|error| self.explain(&error))
    }

    /// Turns a value that breaks a rule into a mistake with its place.
    pub fn diagnose(&self, problem: &Problem) -> Diagnostic {
        // A path may name what is missing; then the nearest thing above it is shown.
        let place = (0..=problem.path.len()).rev().find_map(|depth| self.find(&problem.path[..depth]));
        self.at(place.unwrap_or((1, 1)), 0).message(&problem.message).help(&problem.help)
    }

    /// Line and column, within the document, of the value at a path.
    fn find(&self, path: &[String]) -> Option<(usize, usize)> {
        serde_saphyr::with_deserializer_from_str_with_options(&self.text, options(), |deserializer| {
            Seek { path }.deserialize(deserializer)
        })
        .ok()
        .flatten()
    }

    /// A mistake at a place within the document.
    fn at(&self, place: (usize, usize), width: usize) -> Diagnostic {
        let mut diagnostic = Diagnostic::at(&self.file, &self.text, place, width);
        if diagnostic.line > 0 {
            diagnostic.line += self.lines_before;
        }
        diagnostic
    }

    fn has_content(&self) -> bool {
        self.text.lines().any(|line| {
            let text = line.trim();
            !text.is_empty() && !text.starts_with('#') && !line.starts_with('%')
        })
    }

    fn explain(&self, error: &Error) -> Diagnostic {
        let error = error.without_snippet();
        let place =
            error.location().map_or((0, 0), |location| (index(location.line()), index(location.column())));
        let at = self.at(if place.0 == 0 { (1, 1) } else { place }, 0);
        match error {
            Error::SerdeUnknownField { field, expected, .. } => {
                at.message(format!("unknown field `{}`", cut(field))).help(choice(field, expected))
            }
            Error::SerdeUnknownVariant { variant, expected, .. } => {
                at.message(format!("unknown value `{}`", cut(variant))).help(choice(variant, expected))
            }
            Error::SerdeMissingField { field, .. } => {
                at.message(format!("field `{field}` is missing")).help(format!("add `{field}:`"))
            }
            Error::DuplicateMappingKey { key: Some(key), .. } => {
                at.message(format!("`{}` is given twice", cut(key))).help("keep one of them")
            }
            Error::SerdeInvalidType { unexpected, expected, .. }
            | Error::SerdeInvalidValue { unexpected, expected, .. } => {
                at.message(format!("{} stands where {expected} is expected", cut(unexpected)))
            }
            Error::Unexpected { expected, .. } => {
                let plain = KINDS.iter().find(|(theirs, _)| theirs == expected);
                at.message(format!("{} is expected here", plain.map_or(*expected, |(_, plain)| plain)))
            }
            Error::InvalidScalar { ty, .. } => {
                let plain = KINDS.iter().find(|(theirs, _)| theirs == ty);
                at.message(format!("{} is expected here", plain.map_or(*ty, |(_, plain)| plain)))
            }
            Error::InvalidBooleanStrict { .. } => {
                at.message("a truth value is expected here").help("write `true` or `false`")
            }
            Error::NullIntoString { .. } => at.message("a value is missing here"),
            Error::UnknownAnchor { .. } => {
                at.message("this alias names no anchor").help("put a text that begins with * in quotes")
            }
            Error::AliasError { error, .. } => self.explain(error),
            Error::Message { msg, .. } => at.message(cut(msg)),
            other => at.message(cut(&without_place(&other.to_string()))),
        }
    }
}

/// What the reader calls what it wanted, in words of people.
const KINDS: [(&str, &str); 12] = [
    ("string scalar", "a text"),
    ("sequence start", "a list"),
    ("mapping start", "a mapping (`key: value`)"),
    ("u8", "a whole number from 0 to 255"),
    ("u16", "a whole number from 0 to 65535"),
    ("u32", "a whole number from 0 to 4294967295"),
    ("u64", "a whole number, not below 0"),
    ("i64", "a whole number"),
    ("f64", "a number"),
    ("bool", "`true` or `false`"),
    ("scalar", "a single value"),
    ("float", "a number"),
];

fn options() -> Options {
    serde_saphyr::options! {
        with_snippet: false,
        strict_booleans: true,
        budget: serde_saphyr::budget! { max_documents: 1 },
    }
}

fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// Values come from files of any content; a message stays readable.
fn cut(text: &str) -> String {
    plain(text, 200)
}

/// Drops the ` at line 3, column 5` that the reader appends: the place is printed in front.
fn without_place(message: &str) -> String {
    let first = message.lines().next().unwrap_or_default();
    let end = first.find(" at line ").unwrap_or(first.len());
    first[..end].to_owned()
}

fn choice(word: &str, expected: &[&'static str]) -> String {
    match nearest(word, expected.iter().copied()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None if expected.is_empty() => "nothing can stand here".to_owned(),
        None => format!("possible here: {}", expected.join(", ")),
    }
}

/// Walks to a value and says where it begins.
struct Seek<'p> {
    path: &'p [String],
}

impl<'de> DeserializeSeed<'de> for Seek<'_> {
    type Value = Option<(usize, usize)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        if self.path.is_empty() {
            let value = <Spanned<IgnoredAny> as de::Deserialize>::deserialize(deserializer)?;
            return Ok(Some((index(value.referenced.line()), index(value.referenced.column()))));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seek<'_> {
    type Value = Option<(usize, usize)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping or a list")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<String>()? {
            if self.path.first() == Some(&key) {
                found = map.next_value_seed(Seek { path: &self.path[1..] })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let wanted = self.path.first().and_then(|part| part.parse::<usize>().ok());
        let mut found = None;
        for at in 0_usize.. {
            let more = if wanted == Some(at) {
                let place = seq.next_element_seed(Seek { path: &self.path[1..] })?;
                let more = place.is_some();
                found = place.flatten();
                more
            } else {
                seq.next_element::<IgnoredAny>()?.is_some()
            };
            if !more {
                break;
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::{Span, Text};
    use model::ids::SiteId;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    #[expect(dead_code, reason = "only read")]
    struct Outer {
        name: Text<SiteId>,
        #[serde(default)]
        drain_timeout: Option<Span>,
        #[serde(default)]
        inner: Vec<Inner>,
        #[serde(default)]
        mode: Option<Mode>,
        #[serde(default)]
        flag: bool,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read")]
    struct Inner {
        port: u16,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Mode {
        Fast,
        PodIp,
    }

    fn check(text: &str, expected: &str) {
        let shown = match read::<Outer>("a.yaml", text) {
            Ok(value) => format!("{value:?}"),
            Err(diagnostic) => diagnostic.to_string(),
        };
        assert_eq!(shown, expected.trim_start_matches('\n'), "\n{shown}\n");
    }

    #[test]
    fn each_mistake_is_shown_at_its_place() {
        check(
            "name: east\ndrainTimout: 10s\n",
            "
error: a.yaml:2:1: unknown field `drainTimout`
    1 | name: east
    2 | drainTimout: 10s
      | ^^^^^^^^^^^ did you mean `drainTimeout`?",
        );
        check(
            "name: East\n",
            "
error: a.yaml:1:7: `East` is not a valid site name: only a-z, 0-9 and - may be used
    1 | name: East
      |       ^^^^",
        );
        check(
            "name: east\ndrainTimeout: 10 parsecs\n",
            "
error: a.yaml:2:15: `10 parsecs` is not a span of time: write a number and a unit, ms, s, m, h or d, as in `10s`
    1 | name: east
    2 | drainTimeout: 10 parsecs
      |               ^^",
        );
        check(
            "name: east\nmode: pod-ipp\n",
            "
error: a.yaml:2:7: unknown value `pod-ipp`
    1 | name: east
    2 | mode: pod-ipp
      |       ^^^^^^^ did you mean `pod-ip`?",
        );
        check(
            "name: east\ninner:\n  - port: 70000\n",
            "
error: a.yaml:3:11: a whole number from 0 to 65535 is expected here
    1 | name: east
    2 | inner:
    3 |   - port: 70000
      |           ^^^^^",
        );
    }

    #[test]
    fn structure_is_explained_too() {
        check(
            "inner: []\n",
            "
error: a.yaml:1:1: field `name` is missing
    1 | inner: []
      | ^^^^^ add `name:`",
        );
        check(
            "name: a\nname: b\n",
            "
error: a.yaml:2:1: `name` is given twice
    1 | name: a
    2 | name: b
      | ^^^^ keep one of them",
        );
        check(
            "name: [a]\n",
            "
error: a.yaml:1:7: a text is expected here
    1 | name: [a]
      |       ^",
        );
        check(
            "name: a\ninner: {a: 1}\n",
            "
error: a.yaml:2:8: a list is expected here
    1 | name: a
    2 | inner: {a: 1}
      |        ^",
        );
        check(
            "name: a\nflag: yes\n",
            "
error: a.yaml:2:7: a truth value is expected here
    1 | name: a
    2 | flag: yes
      |       ^^^ write `true` or `false`",
        );
        check(
            "name: \"a\n",
            "
error: a.yaml:1:7: unclosed quote
    1 | name: \"a
      |       ^",
        );
        check("# nothing\n", "error: a.yaml: the file is empty");
        check("\u{feff}---\n", "error: a.yaml: the file is empty");
        check(
            "name: *x\n",
            "
error: a.yaml:1:7: this alias names no anchor
    1 | name: *x
      |       ^^ put a text that begins with * in quotes",
        );
        check(
            "name: a\ninner:\n  - {}\n",
            "
error: a.yaml:3:5: field `port` is missing
    1 | name: a
    2 | inner:
    3 |   - {}
      |     ^ add `port:`",
        );
    }

    #[test]
    fn a_mistake_in_a_later_document_has_the_line_of_the_file() {
        let text = "# head\n---\nname: a\n--- # second\nname: b\ninner:\n  - prot: 1\n...\n";
        let documents = documents("a.yaml", text).expect("splits");
        assert_eq!(documents.len(), 2);
        assert!(documents[0].read::<Outer>().is_ok());
        let error = documents[1].read::<Outer>().expect_err("prot");
        assert_eq!((error.line, error.column), (7, 5));
        assert_eq!(error.help, "did you mean `port`?");
    }

    #[test]
    fn a_second_document_is_no_surprise() {
        let error = read::<Outer>("a.yaml", "name: a\n---\nname: b\n").expect_err("two");
        assert_eq!(error.line, 2);
        assert!(read::<Outer>("a.json", "{\"name\": \"a\", \"inner\": [{\"port\": 1}]}").is_ok());
    }

    #[test]
    fn a_rule_that_is_broken_is_shown_at_the_value() {
        let text = "name: a\ninner:\n  - port: 1\n  - port: 1\n";
        let document = &documents("a.yaml", text).expect("splits")[0];
        let place = |path| {
            let shown = document.diagnose(&Problem::at(path, "x"));
            (shown.line, shown.column)
        };
        assert_eq!(place("inner.1.port"), (4, 11));
        assert_eq!(place("inner.1"), (4, 5));
        assert_eq!(place("name"), (1, 7));
        assert_eq!(place("inner.7.port"), (3, 3), "what is missing is shown at what should hold it");
        assert_eq!(place("other"), (1, 1));
    }

    #[test]
    fn no_text_makes_the_reader_fail_badly() {
        for text in
            ["{", "[", "a: b: c", "\t", "\0", "&a [*a]", "? ", "!!x y", "%X", "%YAML 1.2\n---\nname: a", "'"]
        {
            let _ = read::<Outer>("a.yaml", text);
        }
        let bomb = "a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\n".repeat(3);
        assert!(read::<Outer>("a.yaml", &bomb).is_err());
        assert!(documents("a.yaml", &"---\n".repeat(DOCUMENTS_MAX + 2)).is_err());
        assert!(documents("a.yaml", &"x".repeat(FILE_MAX + 1)).is_err());
        assert!(read::<Outer>("a.yaml", &"[".repeat(100_000)).is_err());
    }
}
