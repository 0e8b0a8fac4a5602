//! The drawing as SVG: text in a font of fixed width, so that boxes fit what is in them wherever it is shown.

use super::layout::{Area, Graph, Layout, layout};
use super::{Line, Picture, Row, SiteBox, What};
use std::fmt::Write as _;

/// Width of a character of the text, and of the names of sites: 0.602 of the size in the usual fonts.
const CHAR: f64 = 7.3;
const NAME_CHAR: f64 = 9.1;
/// Between two lines of text.
const LINE: f64 = 19.0;
const LABEL_LINE: f64 = 16.0;
/// Within a box.
const PAD: f64 = 14.0;
/// Height of what stands above the rows: name, and facts.
const NAME: f64 = 24.0;
/// A gateway.
const PILL: f64 = 22.0;
const PILL_GAP: f64 = 8.0;
/// Around the drawing, and above it for the title.
const EDGE: f64 = 28.0;
const HEAD: f64 = 62.0;

/// Colours of GitHub's own pages, which hold their contrast on both grounds.
const STYLE: &str = "\
text{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;font-size:12px;fill:#1f2328}\
.title{font-size:17px;font-weight:700}.name{font-size:15px;font-weight:700}.faint{fill:#59636e}.mid{text-anchor:middle}\
.ground{fill:#ffffff}.site{fill:#f6f8fa;stroke:#818b98;stroke-width:1.2}\
.gateway{fill:#ddf4ff;stroke:#0969da}.gw{fill:#0550ae}\
.link{stroke:#0969da;stroke-width:2}.cut{stroke:#cf222e;stroke-dasharray:7 5}.tip{fill:#0969da}\
.label{fill:#ffffff;stroke:#d1d9e0}\
.workload{fill:#1a7f37}.host{fill:none;stroke:#59636e;stroke-width:1.4}.client{fill:#9a6700}\
@media (prefers-color-scheme:dark){text{fill:#f0f6fc}.faint{fill:#9198a1}.ground{fill:#0d1117}\
.site{fill:#151b23;stroke:#656c76}.gateway{fill:#0c2d6b;stroke:#4493f8}.gw{fill:#a5d6ff}\
.link{stroke:#4493f8}.cut{stroke:#f85149}.tip{fill:#4493f8}.label{fill:#0d1117;stroke:#3d444d}\
.workload{fill:#3fb950}.host{stroke:#9198a1}.client{fill:#d29922}}";

pub(super) fn draw(picture: &Picture) -> String {
    let placed = layout(&Graph {
        boxes: picture.sites.iter().map(size).collect(),
        links: picture.links.iter().map(|link| (link.ends, label_size(link))).collect(),
    });
    let edges = Edges::of(&placed, picture);
    let mut svg = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{w:.0}\" height=\"{h:.0}\" viewBox=\"0 0 {w:.0} {h:.0}\" \
         role=\"img\" aria-labelledby=\"title about\">\n<title id=\"title\">{}</title>\n\
         <desc id=\"about\">{}</desc>\n<style>{STYLE}</style>\n\
         <defs><marker id=\"tip\" viewBox=\"0 0 10 10\" refX=\"9\" refY=\"5\" markerWidth=\"7\" markerHeight=\"7\" \
         orient=\"auto-start-reverse\"><path class=\"tip\" d=\"M0 0L10 5L0 10z\"/></marker></defs>\n\
         <rect class=\"ground\" width=\"{w:.0}\" height=\"{h:.0}\"/>",
        escape(&picture.title),
        escape(&picture.subtitle),
        w = edges.width,
        h = edges.height,
    );
    text(&mut svg, "title", EDGE, EDGE + 8.0, &picture.title);
    text(&mut svg, "faint", EDGE, EDGE + 28.0, &picture.subtitle);
    let _ = writeln!(svg, "<g transform=\"translate({:.1} {:.1})\">", edges.dx, edges.dy);
    for (link, line) in picture.links.iter().zip(&placed.lines) {
        let class = if link.cut { "link cut" } else { "link" };
        let tip = match link.only_dialled {
            Some(0) => " marker-start=\"url(#tip)\"",
            Some(_) => " marker-end=\"url(#tip)\"",
            None => "",
        };
        let [from, to] = line;
        let _ = writeln!(
            svg,
            "<line class=\"{class}\" x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\"{tip}/>",
            from.x, from.y, to.x, to.y
        );
    }
    for (link, area) in picture.links.iter().zip(&placed.labels) {
        label(&mut svg, link, area);
    }
    for (site, area) in picture.sites.iter().zip(&placed.boxes) {
        site_box(&mut svg, site, area);
    }
    svg.push_str("</g>\n</svg>\n");
    svg
}

/// Size of the image, and how far the drawing is moved within it.
struct Edges {
    width: f64,
    height: f64,
    dx: f64,
    dy: f64,
}

impl Edges {
    fn of(placed: &Layout, picture: &Picture) -> Self {
        let areas = || placed.boxes.iter().chain(&placed.labels);
        let least = |of: fn(&Area) -> f64| areas().map(of).fold(f64::INFINITY, f64::min);
        let most = |of: fn(&Area) -> f64| areas().map(of).fold(f64::NEG_INFINITY, f64::max);
        let (left, top) = (least(Area::left), least(Area::top));
        let drawn = most(|area| area.left() + area.width) - left;
        let head = (length(&picture.title) * 10.4).max(length(&picture.subtitle) * CHAR);
        Self {
            width: drawn.max(head) + 2.0 * EDGE,
            height: most(|area| area.top() + area.height) - top + HEAD + 2.0 * EDGE,
            dx: EDGE - left + (head - drawn).max(0.0) / 2.0,
            dy: EDGE + HEAD - top,
        }
    }
}

fn length(text: &str) -> f64 {
    text.chars().count() as f64
}

/// Gateways a row of at most four.
const PILLS: usize = 4;

fn pill_width(name: &str) -> f64 {
    length(name) * CHAR + 16.0
}

fn size(site: &SiteBox) -> (f64, f64) {
    let pills = site
        .gateways
        .chunks(PILLS)
        .map(|row| row.iter().map(|name| pill_width(name) + PILL_GAP).sum::<f64>() - PILL_GAP);
    let rows = site.rows.iter().map(|row| indent(row) + 16.0 + length(&row.text) * CHAR);
    let head = [length(&site.name) * NAME_CHAR, length(&site.facts) * CHAR];
    let width = head.into_iter().chain(pills).chain(rows).fold(120.0, f64::max);
    let facts = if site.facts.is_empty() { 0.0 } else { LINE };
    let pill_rows = site.gateways.len().div_ceil(PILLS) as f64;
    let rows = site.rows.len() as f64 * LINE + if site.rows.is_empty() { 0.0 } else { 6.0 };
    (width + 2.0 * PAD, NAME + facts + pill_rows * (PILL + 6.0) + rows + 2.0 * PAD - 4.0)
}

fn indent(row: &Row) -> f64 {
    if row.inside { 18.0 } else { 0.0 }
}

fn label_size(link: &Line) -> (f64, f64) {
    if link.label.is_empty() {
        return (0.0, 0.0);
    }
    let width = link.label.iter().map(|line| length(line)).fold(0.0, f64::max) * CHAR;
    (width + 16.0, link.label.len() as f64 * LABEL_LINE + 8.0)
}

fn label(svg: &mut String, link: &Line, area: &Area) {
    if link.label.is_empty() {
        return;
    }
    let _ = writeln!(
        svg,
        "<rect class=\"label\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"6\"/>",
        area.left(),
        area.top(),
        area.width,
        area.height
    );
    for (n, line) in link.label.iter().enumerate() {
        let y = area.top() + 4.0 + LABEL_LINE * n as f64 + 12.0;
        text(svg, "mid", area.middle.x, y, line);
    }
}

fn site_box(svg: &mut String, site: &SiteBox, area: &Area) {
    let _ = writeln!(
        svg,
        "<rect class=\"site\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"10\"/>",
        area.left(),
        area.top(),
        area.width,
        area.height
    );
    let left = area.left() + PAD;
    let mut y = area.top() + PAD;
    text(svg, "name", left, y + 13.0, &site.name);
    y += NAME;
    if !site.facts.is_empty() {
        text(svg, "faint", left, y + 11.0, &site.facts);
        y += LINE;
    }
    for row in site.gateways.chunks(PILLS) {
        let mut x = left;
        for name in row {
            let width = pill_width(name);
            let _ = writeln!(
                svg,
                "<rect class=\"gateway\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{PILL}\" rx=\"11\"/>"
            );
            text(svg, "gw mid", x + width / 2.0, y + 15.0, name);
            x += width + PILL_GAP;
        }
        y += PILL + 6.0;
    }
    y += 6.0;
    for row in &site.rows {
        let x = left + indent(row);
        let _ = match row.what {
            What::Host => writeln!(
                svg,
                "<rect class=\"host\" x=\"{:.1}\" y=\"{:.1}\" width=\"9\" height=\"9\" rx=\"1.5\"/>",
                x + 0.7,
                y + 2.5
            ),
            What::Workload => {
                writeln!(
                    svg,
                    "<circle class=\"workload\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"4\"/>",
                    x + 5.0,
                    y + 7.0
                )
            }
            What::Client => {
                writeln!(svg, "<path class=\"client\" d=\"M{:.1} {:.1}l8 4.5l-8 4.5z\"/>", x + 1.0, y + 2.5)
            }
        };
        text(svg, "", x + 16.0, y + 11.0, &row.text);
        y += LINE;
    }
}

fn text(svg: &mut String, class: &str, x: f64, y: f64, text: &str) {
    let class = if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
    let _ = writeln!(
        svg,
        "<text{class} x=\"{x:.1}\" y=\"{y:.1}\" xml:space=\"preserve\">{}</text>",
        escape(text)
    );
}

fn escape(text: &str) -> String {
    // Control characters were taken out with `plain`; what is left is XML but for these.
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
