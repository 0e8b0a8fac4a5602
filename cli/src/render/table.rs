//! Tables that align, and fit.

use super::style::Style;
use std::fmt::Write as _;

/// Widest table; what a terminal of today shows without wrapping.
pub const WIDTH: usize = 100;
/// Narrowest that a column is cut to.
const COLUMN_MIN: usize = 6;
const GAP: &str = "  ";

/// Which side of a column is straight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A column.
#[derive(Debug, Clone)]
pub struct Column {
    title: &'static str,
    align: Align,
    /// Columns with a smaller value are cut first when the table is too wide.
    keep: u8,
    /// It is left out when the table is too wide.
    optional: bool,
}

/// Builds a column of words. `keep`: columns with a smaller value are cut first.
pub fn left(title: &'static str, keep: u8) -> Column {
    Column { title, align: Align::Left, keep, optional: false }
}

/// Builds a column of words that is left out, whole, where the table would be too wide with it.
pub fn optional(title: &'static str) -> Column {
    Column { title, align: Align::Left, keep: 0, optional: true }
}

/// Builds a column of numbers, which is never cut.
pub fn right(title: &'static str) -> Column {
    Column { title, align: Align::Right, keep: u8::MAX, optional: false }
}

/// A cell: its text, and how it is coloured.
#[derive(Debug, Clone)]
pub struct Cell {
    text: String,
    paint: Option<fn(Style, &str) -> String>,
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: text.into(), paint: None }
    }
}

/// A cell in a colour.
pub fn painted(text: impl Into<String>, paint: fn(Style, &str) -> String) -> Cell {
    Cell { text: text.into(), paint: Some(paint) }
}

/// A table.
#[derive(Debug, Clone)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<(Vec<Cell>, String)>,
}

impl Table {
    /// An empty table.
    pub fn new(columns: Vec<Column>) -> Self {
        Self { columns, rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<Cell>) {
        self.row_with_note(cells, String::new());
    }

    /// Adds a row and what is to be said about it. The note stands behind the row where it fits, else below it.
    pub fn row_with_note(&mut self, cells: Vec<Cell>, note: impl Into<String>) {
        debug_assert_eq!(cells.len(), self.columns.len());
        self.rows.push((cells, note.into()));
    }

    /// The text, without a final line break. Lines have at most [`WIDTH`] characters, notes included.
    pub fn text(&self, style: Style) -> String {
        match self.without_least() {
            Some(narrower) => narrower.text(style),
            None => self.layout(style),
        }
    }

    /// The table without its last optional column, if it is too wide with it.
    fn without_least(&self) -> Option<Self> {
        if total(&self.natural()) <= WIDTH {
            return None;
        }
        let at = self.columns.iter().rposition(|column| column.optional)?;
        let mut narrower = self.clone();
        narrower.columns.remove(at);
        for (cells, _) in &mut narrower.rows {
            cells.remove(at);
        }
        Some(narrower)
    }

    fn layout(&self, style: Style) -> String {
        let widths = self.widths();
        let titles: Vec<Cell> = self.columns.iter().map(|c| painted(c.title, Style::bold)).collect();
        let mut lines = vec![self.line(&titles, &widths, style).0];
        for (cells, note) in &self.rows {
            let (line, length) = self.line(cells, &widths, style);
            if note.is_empty() {
                lines.push(line);
                continue;
            }
            let mark = format!("← {note}");
            if length + GAP.len() + chars(&mark) <= WIDTH {
                lines.push(format!("{line}{GAP}{}", style.warn(&mark)));
                continue;
            }
            lines.push(line);
            lines.extend(wrap(&mark, WIDTH - 4).into_iter().enumerate().map(|(at, part)| {
                let indent = if at == 0 { "  " } else { "    " };
                format!("{indent}{}", style.warn(&part))
            }));
        }
        lines.join("\n")
    }

    /// Widths with which nothing is cut.
    fn natural(&self) -> Vec<usize> {
        let cell = |at: usize| self.rows.iter().map(move |(cells, _)| chars(&cells[at].text));
        let width = |(at, column): (usize, &Column)| cell(at).chain([chars(column.title)]).max().unwrap_or(0);
        self.columns.iter().enumerate().map(width).collect()
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths = self.natural();
        let mut order: Vec<usize> = (0..widths.len()).filter(|at| self.columns[*at].keep < u8::MAX).collect();
        order.sort_by_key(|at| self.columns[*at].keep);
        for at in order {
            let over = total(&widths).saturating_sub(WIDTH);
            let least = COLUMN_MIN.max(chars(self.columns[at].title)).min(widths[at]);
            widths[at] = widths[at].saturating_sub(over).max(least);
        }
        widths
    }

    /// One line and its length in characters, without trailing spaces.
    fn line(&self, cells: &[Cell], widths: &[usize], style: Style) -> (String, usize) {
        let mut line = String::new();
        let mut length = 0;
        let mut pending = 0;
        for (at, (cell, column)) in cells.iter().zip(&self.columns).enumerate() {
            if at > 0 {
                pending += GAP.len();
            }
            let text = cut(&cell.text, widths[at]);
            let pad = widths[at] - chars(&text);
            if column.align == Align::Right {
                pending += pad;
            }
            if !text.is_empty() {
                let painted = cell.paint.map_or_else(|| text.clone(), |paint| paint(style, &text));
                let _ = write!(line, "{}{painted}", " ".repeat(pending));
                length += pending + chars(&text);
                pending = 0;
            }
            if column.align == Align::Left {
                pending += pad;
            }
        }
        (line, length)
    }
}

fn total(widths: &[usize]) -> usize {
    widths.iter().sum::<usize>() + GAP.len() * widths.len().saturating_sub(1)
}

fn chars(text: &str) -> usize {
    text.chars().count()
}

/// Shortens a text to `width` characters; the last one is then `…`.
pub fn cut(text: &str, width: usize) -> String {
    if chars(text) <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// Breaks a text at spaces into lines of at most `width` characters; a longer word stays whole.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if chars(line) + 1 + chars(word) <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(long: usize) -> Table {
        let mut table = Table::new(vec![left("PEER", 9), right("RTT ms"), left("WHY", 1), left("NAME", 5)]);
        table.row(vec!["west".into(), "61.2".into(), "".into(), "w".into()]);
        table.row_with_note(
            vec!["gcp".into(), "118.9".into(), "x".repeat(long).into(), "gcp-name".into()],
            "2 paths are dead",
        );
        table
    }

    #[test]
    fn columns_align_and_notes_follow() {
        let expected = "PEER  RTT ms  WHY  NAME\n\
                        west    61.2       w\n\
                        gcp    118.9  xxx  gcp-name  ← 2 paths are dead";
        assert_eq!(table(3).text(Style::PLAIN), expected);
    }

    #[test]
    fn the_least_useful_column_is_cut_first_and_nothing_is_wider_than_the_limit() {
        let text = table(200).text(Style::PLAIN);
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert!(text.contains("x…  gcp-name\n  ← 2 paths are dead"), "{text}");
    }

    #[test]
    fn an_optional_column_is_there_or_not() {
        let table = |long: usize| {
            let mut table = Table::new(vec![left("A", 1), optional("B"), left("C", 9)]);
            table.row(vec!["x".repeat(long).into(), "b".into(), "c".into()]);
            table.text(Style::PLAIN)
        };
        assert!(table(3).starts_with("A    B  C\nxxx  b  c"));
        assert!(!table(96).contains('B') && table(96).lines().all(|line| line.chars().count() <= WIDTH));
    }

    #[test]
    fn colours_do_not_change_the_layout() {
        let mut table = Table::new(vec![left("STATE", 1), right("N")]);
        table.row(vec![painted("connected", Style::good), "4".into()]);
        let plain = table.text(Style::PLAIN);
        let coloured = table.text(Style { on: true });
        assert!(coloured.contains("\x1b[32mconnected\x1b[0m"));
        let mut stripped = coloured;
        for code in ["\x1b[32m", "\x1b[1m", "\x1b[0m"] {
            stripped = stripped.replace(code, "");
        }
        assert_eq!(stripped, plain);
    }
}
