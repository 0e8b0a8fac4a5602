//! Keys of documents: kind and name.

use std::fmt;

/// Kinds of documents; closed. The text of a kind is part of the store's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DocumentKind {
    /// A resource, as a person wrote it.
    Resource,
    /// A link to another site.
    Link,
    /// An invite that was made and not yet used up.
    Invite,
    /// A join token that was made and not yet used up.
    Token,
    /// A gateway or an agent of this site.
    Node,
    /// Something that drains.
    Drain,
    /// When a site was first seen to have a name.
    FirstSeen,
    /// Which source said an entry of the own catalog.
    Owner,
}

/// All kinds with their texts.
const KINDS: [(DocumentKind, &str); 8] = [
    (DocumentKind::Resource, "resource"),
    (DocumentKind::Link, "link"),
    (DocumentKind::Invite, "invite"),
    (DocumentKind::Token, "token"),
    (DocumentKind::Node, "node"),
    (DocumentKind::Drain, "drain"),
    (DocumentKind::FirstSeen, "first-seen"),
    (DocumentKind::Owner, "owner"),
];

impl fmt::Display for DocumentKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = KINDS.iter().find(|(kind, _)| kind == self).map_or("", |(_, text)| text);
        f.pad(text)
    }
}

/// Names a document.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DocumentKey {
    /// Kind.
    pub kind: DocumentKind,
    /// Name, unique within the kind.
    pub name: String,
}

impl DocumentKey {
    /// Builds a key.
    pub fn new(kind: DocumentKind, name: impl fmt::Display) -> Self {
        Self { kind, name: name.to_string() }
    }

    /// `KIND:NAME`.
    pub fn to_text(&self) -> String {
        format!("{}:{}", self.kind, self.name)
    }

    /// Back from text; none for a kind that is not known.
    pub fn from_text(text: &str) -> Option<Self> {
        let (kind, name) = text.split_once(':')?;
        let (kind, _) = KINDS.iter().find(|(_, text)| *text == kind)?;
        Some(Self { kind: *kind, name: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_survives_text() {
        for (kind, _) in KINDS {
            let key = DocumentKey::new(kind, "shop/cart:8080");
            assert_eq!(DocumentKey::from_text(&key.to_text()), Some(key));
        }
        assert_eq!(DocumentKey::from_text("other:x"), None);
    }
}
