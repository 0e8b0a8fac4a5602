//! Where everything of a drawing goes: sites around an ellipse or around one in the middle, labels on the lines.
//!
//! All of it is determined by the picture: no chance, no order of a hash map.

/// A point, in pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Point {
    pub x: f64,
    pub y: f64,
}

/// A rectangle by its middle and its size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Area {
    pub middle: Point,
    pub width: f64,
    pub height: f64,
}

/// What is to be placed.
#[derive(Debug, Clone)]
pub(super) struct Graph {
    /// Width and height of each site.
    pub boxes: Vec<(f64, f64)>,
    /// Each link: its ends, and width and height of its label (0 for none).
    pub links: Vec<([usize; 2], (f64, f64))>,
}

/// Where it is placed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Layout {
    pub boxes: Vec<Area>,
    /// Both ends of each link, at the borders of the boxes.
    pub lines: Vec<[Point; 2]>,
    pub labels: Vec<Area>,
}

/// Sites for which the order is sought that crosses the fewest lines; it grows with the square.
const SOUGHT_MAX: usize = 12;
/// How often the drawing is made larger until nothing overlaps.
const GROWTHS: usize = 24;
/// Least distance of two boxes.
const MARGIN: f64 = 56.0;

impl Area {
    pub(super) fn left(&self) -> f64 {
        self.middle.x - self.width / 2.0
    }

    pub(super) fn top(&self) -> f64 {
        self.middle.y - self.height / 2.0
    }

    /// They come nearer to each other than `margin`.
    fn meets(&self, other: &Self, margin: f64) -> bool {
        (self.middle.x - other.middle.x).abs() < (self.width + other.width) / 2.0 + margin
            && (self.middle.y - other.middle.y).abs() < (self.height + other.height) / 2.0 + margin
    }

    /// Where the line from its middle to `to` leaves it.
    fn border(&self, to: Point) -> Point {
        let (dx, dy) = (to.x - self.middle.x, to.y - self.middle.y);
        let share =
            |length: f64, half: f64| if length.abs() < 1e-9 { f64::INFINITY } else { half / length.abs() };
        let part = share(dx, self.width / 2.0).min(share(dy, self.height / 2.0)).min(1.0);
        Point { x: self.middle.x + dx * part, y: self.middle.y + dy * part }
    }

    /// Whether a line touches it when it is made larger by `margin` all around (Liang and Barsky's clipping).
    fn is_crossed(&self, [from, to]: [Point; 2], margin: f64) -> bool {
        let (mut enter, mut leave) = (0.0_f64, 1.0_f64);
        let axes = [
            (from.x, to.x - from.x, self.middle.x, self.width / 2.0 + margin),
            (from.y, to.y - from.y, self.middle.y, self.height / 2.0 + margin),
        ];
        for (start, delta, middle, half) in axes {
            if delta.abs() < 1e-9 {
                if (start - middle).abs() > half {
                    return false;
                }
                continue;
            }
            let (one, other) = ((middle - half - start) / delta, (middle + half - start) / delta);
            enter = enter.max(one.min(other));
            leave = leave.min(one.max(other));
        }
        enter < leave
    }
}

/// Places everything.
pub(super) fn layout(graph: &Graph) -> Layout {
    let count = graph.boxes.len();
    let mut best: Option<(f64, Layout)> = None;
    for has_middle in [false, true] {
        if has_middle && !(4..=SOUGHT_MAX).contains(&count) {
            continue;
        }
        let order = order(graph, has_middle);
        for step in 0..GROWTHS {
            let scale = 1.0 + 0.08 * f64::from(u32::try_from(step).unwrap_or_default());
            let boxes = place(graph, &order, has_middle, scale);
            let apart = (0..count).all(|a| (0..a).all(|b| !boxes[a].meets(&boxes[b], MARGIN)));
            if !apart && step + 1 < GROWTHS {
                continue;
            }
            let (cost, layout) = finish(graph, boxes);
            // Larger is worse, overlaps are much worse.
            let cost = cost + scale * 4.0;
            if best.as_ref().is_none_or(|(least, _)| cost < *least) {
                best = Some((cost, layout));
            }
        }
    }
    best.map_or_else(
        || Layout { boxes: Vec::new(), lines: Vec::new(), labels: Vec::new() },
        |(_, layout)| layout,
    )
}

/// Middles of the places on an ellipse of radius 1, and of the one in its middle, if there is one: the first.
fn places(count: usize, has_middle: bool) -> Vec<Point> {
    let around = count - usize::from(has_middle);
    let turn = std::f64::consts::TAU / around.max(1) as f64;
    let first = match around {
        2 => std::f64::consts::PI,
        // A corner up for odd counts, a side up for even ones.
        n if n % 2 == 1 => -std::f64::consts::FRAC_PI_2,
        _ => -std::f64::consts::FRAC_PI_2 - turn / 2.0,
    };
    let middle = has_middle.then_some(Point { x: 0.0, y: 0.0 });
    let ring = (0..around).map(|n| {
        let angle = first + turn * n as f64;
        Point { x: angle.cos(), y: angle.sin() }
    });
    middle.into_iter().chain(ring).collect()
}

/// Which site goes to which place, so that few lines cross and they are short.
fn order(graph: &Graph, has_middle: bool) -> Vec<usize> {
    let count = graph.boxes.len();
    let mut order: Vec<usize> = (0..count).collect();
    if count > SOUGHT_MAX {
        return order;
    }
    let places = places(count, has_middle);
    let mut least = crossing(graph, &places, &order);
    let mut has_improved = true;
    while has_improved {
        has_improved = false;
        for one in 0..count {
            for other in 0..one {
                order.swap(one, other);
                let cost = crossing(graph, &places, &order);
                if cost < least - 1e-9 {
                    least = cost;
                    has_improved = true;
                } else {
                    order.swap(one, other);
                }
            }
        }
    }
    order
}

/// How bad an order is: crossings, lines through other places, and length.
fn crossing(graph: &Graph, places: &[Point], order: &[usize]) -> f64 {
    let mut at = vec![0; order.len()];
    for (place, site) in order.iter().enumerate() {
        at[*site] = place;
    }
    let line = |ends: [usize; 2]| ends.map(|end| places[at[end]]);
    let mut cost = 0.0;
    for (n, (ends, _)) in graph.links.iter().enumerate() {
        let one = line(*ends);
        cost += (one[0].x - one[1].x).hypot(one[0].y - one[1].y);
        for (others, _) in &graph.links[..n] {
            let is_joint = ends.iter().any(|end| others.contains(end));
            if !is_joint && cross(one, line(*others)) {
                cost += 10.0;
            }
        }
        for site in (0..order.len()).filter(|site| !ends.contains(site)) {
            let place = Area { middle: places[at[site]], width: 0.4, height: 0.4 };
            if place.is_crossed(one, 0.0) {
                cost += 30.0;
            }
        }
    }
    cost
}

fn cross([a, b]: [Point; 2], [c, d]: [Point; 2]) -> bool {
    let side = |p: Point, q: Point, r: Point| (q.x - p.x) * (r.y - p.y) - (q.y - p.y) * (r.x - p.x);
    side(a, b, c) * side(a, b, d) < 0.0 && side(c, d, a) * side(c, d, b) < 0.0
}

fn place(graph: &Graph, order: &[usize], has_middle: bool, scale: f64) -> Vec<Area> {
    let largest = |pick: fn(&(f64, f64)) -> f64, links: bool| {
        let labels = graph.links.iter().map(|(_, size)| size).filter(|_| links);
        labels.chain(graph.boxes.iter().filter(|_| !links)).map(pick).fold(0.0, f64::max)
    };
    let (width, height) = (largest(|s| s.0, false), largest(|s| s.1, false));
    let label = (largest(|s| s.0, true), largest(|s| s.1, true));
    let count = graph.boxes.len();
    let places = places(count, has_middle);
    let (rx, ry) = if count <= 2 {
        ((width + label.0 + MARGIN) / 2.0, 0.0)
    } else {
        let room = if has_middle { 1.0 } else { 0.75 };
        (((width + label.0) * room + MARGIN) * scale, ((height + label.1) * room + MARGIN) * scale * 0.9)
    };
    let mut boxes = vec![Area { middle: Point { x: 0.0, y: 0.0 }, width: 0.0, height: 0.0 }; count];
    for (place, site) in places.iter().zip(order) {
        let (width, height) = graph.boxes[*site];
        boxes[*site] = Area { middle: Point { x: place.x * rx, y: place.y * ry }, width, height };
    }
    boxes
}

/// Draws the lines, finds places for the labels, and says how much overlaps.
fn finish(graph: &Graph, boxes: Vec<Area>) -> (f64, Layout) {
    let lines: Vec<[Point; 2]> = graph
        .links
        .iter()
        .map(|([a, b], _)| [boxes[*a].border(boxes[*b].middle), boxes[*b].border(boxes[*a].middle)])
        .collect();
    let mut labels: Vec<Area> = Vec::new();
    let mut total = 0.0;
    for (n, (ends, (width, height))) in graph.links.iter().enumerate() {
        for (site, area) in boxes.iter().enumerate() {
            if !ends.contains(&site) && area.is_crossed(lines[n], 6.0) {
                total += 50.0;
            }
        }
        let [from, to] = lines[n];
        let mut best: Option<(f64, Area)> = None;
        for part in [0.5, 0.44, 0.56, 0.38, 0.62, 0.32, 0.68, 0.26, 0.74] {
            let middle = Point { x: from.x + (to.x - from.x) * part, y: from.y + (to.y - from.y) * part };
            let area = Area { middle, width: *width, height: *height };
            let mut cost = f64::abs(part - 0.5);
            if *width > 0.0 {
                cost += 40.0 * boxes.iter().filter(|other| area.meets(other, 6.0)).count() as f64;
                cost += 30.0 * labels.iter().filter(|other| area.meets(other, 4.0)).count() as f64;
                let crossed = lines.iter().enumerate().filter(|(m, l)| *m != n && area.is_crossed(**l, 2.0));
                cost += 3.0 * crossed.count() as f64;
            }
            if best.as_ref().is_none_or(|(least, _)| cost < *least) {
                best = Some((cost, area));
            }
        }
        let Some((cost, area)) = best else { continue };
        total += cost;
        labels.push(area);
    }
    (total, Layout { boxes, lines, labels })
}
