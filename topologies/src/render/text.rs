//! The drawing for a terminal: sites as boxes, links below as lines between names.

use super::{Line, Picture, Row, SiteBox, TEXT_WIDTH, What};

/// Blanks between two boxes.
const GAP: usize = 2;

pub(super) fn draw(picture: &Picture) -> String {
    let mut lines = vec![picture.title.clone(), picture.subtitle.clone(), String::new()];
    let boxes: Vec<Vec<String>> = picture.sites.iter().map(content).collect();
    match (boxes.as_slice(), picture.links.as_slice()) {
        ([one, other], [link]) if beside(one, other, link).is_some() => {
            lines.extend(beside(one, other, link).unwrap_or_default());
        }
        _ => {
            lines.extend(rows(&boxes));
            lines.extend(links(picture));
        }
    }
    let lines: Vec<&str> = lines.iter().map(|line| line.trim_end()).collect();
    lines.join("\n")
}

/// What stands in the box of a site.
fn content(site: &SiteBox) -> Vec<String> {
    let mut lines = vec![site.name.clone()];
    if !site.facts.is_empty() {
        lines.push(site.facts.clone());
    }
    let mut gateways = String::new();
    for gateway in &site.gateways {
        if gateways.chars().count() + gateway.len() > 34 {
            lines.push(std::mem::take(&mut gateways).trim_end().to_owned());
        }
        gateways.push_str(&format!("[{gateway}] "));
    }
    lines.push(gateways.trim_end().to_owned());
    lines.extend(site.rows.iter().map(row));
    lines
}

fn row(row: &Row) -> String {
    let mark = match row.what {
        What::Host => "▣",
        What::Workload => "●",
        What::Client => "▸",
    };
    format!("{}{mark} {}", if row.inside { "  " } else { "" }, row.text)
}

fn width(text: &str) -> usize {
    text.chars().count()
}

fn pad(text: &str, to: usize) -> String {
    format!("{text}{}", " ".repeat(to.saturating_sub(width(text))))
}

/// Width of a box, its border included.
fn box_width(content: &[String]) -> usize {
    content.iter().map(|line| width(line)).max().unwrap_or_default() + 4
}

/// A box of so many lines within.
fn boxed(content: &[String], height: usize) -> Vec<String> {
    let inner = box_width(content) - 4;
    let bar = "─".repeat(inner + 2);
    let mut lines = vec![format!("┌{bar}┐")];
    for at in 0..height {
        let line = content.get(at).map_or("", String::as_str);
        lines.push(format!("│ {} │", pad(line, inner)));
    }
    lines.push(format!("└{bar}┘"));
    lines
}

/// Boxes side by side, in as many rows as it takes.
fn rows(boxes: &[Vec<String>]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut rest = boxes;
    while !rest.is_empty() {
        let mut used = 0;
        let fits = |content: &&Vec<String>| {
            used += box_width(content) + GAP;
            used <= TEXT_WIDTH + GAP
        };
        let (row, later) = rest.split_at(rest.iter().take_while(fits).count().max(1));
        rest = later;
        let height = row.iter().map(Vec::len).max().unwrap_or_default();
        let drawn: Vec<Vec<String>> = row.iter().map(|content| boxed(content, height)).collect();
        for at in 0..height + 2 {
            let parts: Vec<&str> = drawn.iter().map(|lines| lines[at].as_str()).collect();
            lines.push(parts.join(&" ".repeat(GAP)));
        }
    }
    lines
}

/// Two sites with the link between them; none when that is too wide.
fn beside(one: &[String], other: &[String], link: &Line) -> Option<Vec<String>> {
    let (one, other) = if link.ends == [0, 1] { (one, other) } else { (other, one) };
    let middle = link.label.iter().map(|line| width(line)).max().unwrap_or_default().max(8) + 2;
    if box_width(one) + middle + box_width(other) > TEXT_WIDTH {
        return None;
    }
    let height = one.len().max(other.len()).max(link.label.len() + 1);
    let (left, right) = (boxed(one, height), boxed(other, height));
    // The line leaves the boxes at the gateways, and what it does stands below.
    let at_line = 1 + usize::from(height > link.label.len() + 1);
    let mut lines = Vec::new();
    for (at, (left, right)) in left.iter().zip(&right).enumerate() {
        let between = if at == at_line {
            connector(link, &"═".repeat(middle))
        } else {
            let label =
                at.checked_sub(at_line + 1).and_then(|n| link.label.get(n)).map_or("", String::as_str);
            centred(label, middle, ' ')
        };
        lines.push(format!("{left}{between}{right}"));
    }
    Some(lines)
}

fn centred(text: &str, to: usize, with: char) -> String {
    let rest = to.saturating_sub(width(text));
    let fill = |count: usize| with.to_string().repeat(count);
    format!("{}{text}{}", fill(rest / 2), fill(rest - rest / 2))
}

/// A line with what it says, dashed when it is cut, with an arrow to the end that alone can be dialled.
fn connector(link: &Line, line: &str) -> String {
    let mut chars: Vec<char> = line.chars().map(|c| if c == '═' && link.cut { '╌' } else { c }).collect();
    match link.only_dialled {
        Some(0) => chars[0] = '◄',
        Some(_) => *chars.last_mut().expect("a line is not empty") = '►',
        None => {}
    }
    chars.into_iter().collect()
}

fn links(picture: &Picture) -> Vec<String> {
    if picture.links.is_empty() {
        return vec![String::new(), "no links".to_owned()];
    }
    let names = |end: usize| picture.links.iter().map(move |link| &picture.sites[link.ends[end]].name);
    let first = names(0).map(|name| width(name)).max().unwrap_or_default();
    let labels = picture.links.iter().flat_map(|link| &link.label);
    let middle = labels.map(|label| width(label)).max().unwrap_or_default() + 6;
    let mut lines = vec![String::new()];
    for link in &picture.links {
        let [one, other] = link.ends.map(|end| &picture.sites[end].name);
        let label = match link.label.as_slice() {
            [label] => format!(" {label} "),
            _ => String::new(),
        };
        let line = connector(link, &centred(&label, middle, '═'));
        lines.push(format!("  {} {line} {other}", pad(one, first)));
        // A label of one line stands in the line; longer ones below it.
        if link.label.len() > 1 {
            lines.extend(link.label.iter().map(|label| format!("  {}    {label}", pad("", first))));
        }
    }
    if picture.links.iter().any(|link| link.only_dialled.is_some()) {
        lines.push(String::new());
        lines.push("  ► only this end can be dialled: the other is behind a NAT".to_owned());
    }
    lines
}
