//! The picture of a run: the load by site, failures, faults as bands, and the peers below on the same axis.

use super::text;
use crate::report::{Line, Point, Report};
use std::fmt::Write;

/// Width of the picture, and of the margin on the left that holds names.
const WIDTH: f64 = 1000.0;
const LEFT: f64 = 150.0;
/// Space to the right of the axis, for the last number.
const RIGHT: f64 = 16.0;
/// Height of the load, and of a peer.
const LOAD: f64 = 190.0;
const PEER: f64 = 40.0;
/// Room for one name of a fault.
const LABEL: f64 = 16.0;
/// Most names of faults above the picture; further faults are bands alone.
const LABELS_MAX: usize = 12;
const COLOURS: [&str; 6] = ["var(--a)", "var(--b)", "var(--c)", "var(--d)", "var(--e)", "var(--f)"];

/// The picture as SVG.
pub fn draw(report: &Report) -> String {
    let picture = Picture::new(report);
    let mut svg = String::new();
    let height = picture.bottom() + 26.0;
    let _ = write!(svg, "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">");
    picture.bands(&mut svg);
    picture.load(&mut svg);
    picture.peers(&mut svg);
    picture.axis(&mut svg);
    svg.push_str("</svg>");
    svg
}

struct Picture<'r> {
    report: &'r Report,
    /// Length of the axis, in seconds; never 0.
    length: f64,
    sites: Vec<&'r str>,
    /// Where the load begins.
    top: f64,
}

impl<'r> Picture<'r> {
    fn new(report: &'r Report) -> Self {
        let length = if report.length_s.is_finite() { report.length_s.max(0.001) } else { 1.0 };
        let mut sites: Vec<&str> =
            report.buckets.iter().flat_map(|bucket| bucket.by_site.keys().map(String::as_str)).collect();
        sites.sort_unstable();
        sites.dedup();
        let labels = report.faults.len().min(LABELS_MAX);
        // The height of a picture: a few labels, no count that loses anything.
        let top = 8.0 + LABEL * labels as f64;
        Self { report, length, sites, top }
    }

    fn x(&self, seconds: f64) -> f64 {
        LEFT + (seconds / self.length).clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    }

    fn peers_top(&self) -> f64 {
        self.top + LOAD + 34.0
    }

    fn bottom(&self) -> f64 {
        self.peers_top() + PEER * self.report.peers.len() as f64
    }

    fn bands(&self, svg: &mut String) {
        let bottom = self.bottom();
        for (number, fault) in self.report.faults.iter().enumerate() {
            let (from, until) = (self.x(fault.from_s), self.x(fault.until_s.unwrap_or(self.length)));
            let width = (until - from).max(1.5);
            let y = if number < LABELS_MAX { 8.0 + LABEL * number as f64 } else { self.top };
            let _ = write!(
                svg,
                "<rect x=\"{from:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{:.1}\" fill=\"var(--band)\"/>",
                bottom - y
            );
            if number < LABELS_MAX {
                // Names of late faults end at their band, so that they stay within the picture.
                let (at, anchor) =
                    if from > WIDTH * 0.6 { (from - 6.0, "end") } else { (from + 4.0, "start") };
                let _ = write!(
                    svg,
                    "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>",
                    y + 12.0,
                    text(&fault.words)
                );
            }
        }
    }

    fn load(&self, svg: &mut String) {
        let buckets = &self.report.buckets;
        let most =
            buckets.iter().map(|b| b.by_site.values().sum::<u64>() + b.failed).max().unwrap_or(0).max(1);
        let seconds = self.report.bucket_ms as f64 / 1000.0;
        let scale = LOAD / most as f64;
        for (number, bucket) in buckets.iter().enumerate() {
            let (from, until) = (self.x(number as f64 * seconds), self.x((number + 1) as f64 * seconds));
            let mut y = self.top + LOAD;
            let mut bar = |count: u64, colour: &str| {
                if count == 0 {
                    return;
                }
                let height = count as f64 * scale;
                y -= height;
                let _ = write!(
                    svg,
                    "<rect x=\"{from:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{height:.1}\" fill=\"{colour}\"/>",
                    (until - from + 0.3).max(0.3)
                );
            };
            // Failures stand below, where their ground is the same for all.
            bar(bucket.failed, "var(--bad)");
            for (at, site) in self.sites.iter().enumerate() {
                bar(bucket.by_site.get(*site).copied().unwrap_or(0), COLOURS[at % COLOURS.len()]);
            }
        }
        let mut y = self.top + 14.0;
        let _ = write!(svg, "<text x=\"0\" y=\"{y:.1}\">answered by</text>");
        for (at, site) in self.sites.iter().enumerate() {
            y += LABEL;
            self.legend(svg, y, COLOURS[at % COLOURS.len()], site);
        }
        self.legend(svg, y + LABEL, "var(--bad)", "failed");
        let rate = most as f64 / seconds.max(0.001);
        let _ = write!(svg, "<text x=\"0\" y=\"{:.1}\">top: {rate:.0} / s</text>", self.top + LOAD);
    }

    fn legend(&self, svg: &mut String, y: f64, colour: &str, name: &str) {
        let _ = write!(
            svg,
            "<rect x=\"0\" y=\"{:.1}\" width=\"10\" height=\"10\" fill=\"{colour}\"/><text x=\"16\" y=\"{y:.1}\">{}</text>",
            y - 9.0,
            text(name)
        );
    }

    fn peers(&self, svg: &mut String) {
        for (number, line) in self.report.peers.iter().enumerate() {
            let top = self.peers_top() + PEER * number as f64;
            let _ = write!(
                svg,
                "<text x=\"0\" y=\"{:.1}\">{} → {}</text>",
                top + 13.0,
                text(&line.site),
                text(&line.peer)
            );
            self.states(svg, line, top);
            self.round_trips(svg, line, top);
        }
    }

    /// A strip in the colour of the state, from each look to the next, with the age of the catalog where it grows old.
    fn states(&self, svg: &mut String, line: &Line, top: f64) {
        // Looks that say the same are one piece of the strip.
        let same =
            |a: &Point, b: &Point| (&a.state, a.paths_live, a.paths) == (&b.state, b.paths_live, b.paths);
        let mut rest = line.points.as_slice();
        while let Some(point) = rest.first() {
            let count = rest.iter().take_while(|next| same(point, next)).count();
            rest = &rest[count..];
            let next = rest.first().map_or(self.length, |next| next.at_s);
            let colour = match point.state.as_str() {
                "connected" => "var(--good)",
                "degraded" => "var(--warn)",
                "unreachable" | "expired" => "var(--bad)",
                _ => "var(--line)",
            };
            let (from, until) = (self.x(point.at_s), self.x(next));
            let _ = write!(
                svg,
                "<rect x=\"{from:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"7\" fill=\"{colour}\"><title>{} since {:.1} s, \
                 {} of {} paths</title></rect>",
                top + 6.0,
                (until - from + 0.3).max(0.3),
                text(&point.state),
                point.at_s,
                point.paths_live,
                point.paths
            );
        }
        let oldest = line.points.iter().map(|point| point.age_s).max().unwrap_or(0);
        let longest = line.points.iter().filter_map(|point| point.rtt_ms).fold(0.0_f64, f64::max);
        let _ = write!(
            svg,
            "<text x=\"0\" y=\"{:.1}\" font-size=\"10\">≤ {longest:.0} ms, catalog ≤ {oldest} s</text>",
            top + 28.0
        );
    }

    /// The round trip as a line, each peer on a scale of its own.
    fn round_trips(&self, svg: &mut String, line: &Line, top: f64) {
        let most = line.points.iter().filter_map(|point| point.rtt_ms).fold(0.0_f64, f64::max);
        if most <= 0.0 {
            return;
        }
        let mut points = String::new();
        for point in &line.points {
            match point.rtt_ms {
                Some(rtt) => {
                    let y = top + 36.0 - (rtt / most) * 20.0;
                    let _ = write!(points, "{:.1},{y:.1} ", self.x(point.at_s));
                }
                None => self.polyline(svg, &mut points),
            }
        }
        self.polyline(svg, &mut points);
    }

    fn polyline(&self, svg: &mut String, points: &mut String) {
        if !points.is_empty() {
            let _ = write!(svg, "<polyline points=\"{points}\" fill=\"none\" stroke=\"var(--dim)\"/>");
            points.clear();
        }
    }

    fn axis(&self, svg: &mut String) {
        let y = self.top + LOAD;
        let step =
            [1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0].into_iter().find(|step| self.length / step <= 12.0);
        let step = step.unwrap_or(60.0);
        let _ = write!(
            svg,
            "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{:.1}\" y2=\"{y:.1}\" stroke=\"var(--dim)\"/>",
            WIDTH - RIGHT
        );
        let mut seconds = 0.0;
        while seconds <= self.length + 0.001 {
            let x = self.x(seconds);
            let _ = write!(
                svg,
                "<line x1=\"{x:.1}\" y1=\"{y:.1}\" x2=\"{x:.1}\" y2=\"{:.1}\" stroke=\"var(--dim)\"/>\
                 <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{seconds:.0} s</text>",
                y + 4.0,
                y + 17.0
            );
            seconds += step;
        }
    }
}
