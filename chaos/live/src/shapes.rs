//! From what topologies and experiments say of a way to what the relay does.

use relay::{Jitter, Loss, Rate, Reorder, Shape};
use topologies::impairment::{self, Change, Impairment};

/// What a way does, as the topology says.
pub fn shape(of: &Impairment) -> Shape {
    Shape {
        cut: of.cut,
        mtu: of.mtu.map(usize::from),
        loss: loss(of.loss),
        rate: rate(of),
        delay: of.delay,
        jitter: Jitter { spread: of.jitter, ..Jitter::default() },
        reorder: of.reorder.map(reorder).unwrap_or_default(),
        duplicate: of.duplicate.fraction(),
    }
}

/// Writes a change into the shape of a way; what it does not name stays. A queue counts with its rate, which
/// `Impairment::check` asks for.
pub fn apply(change: &Change, shape: &mut Shape) {
    let said = self::shape(&change.of(Impairment::NONE));
    let Change { delay, jitter, loss, rate, queue: _, mtu, duplicate, reorder, cut } = change;
    if cut.is_some() {
        shape.cut = said.cut;
    }
    if delay.is_some() {
        shape.delay = said.delay;
    }
    if jitter.is_some() {
        shape.jitter = said.jitter;
    }
    if loss.is_some() {
        shape.loss = said.loss;
    }
    if rate.is_some() {
        shape.rate = said.rate;
    }
    if mtu.is_some() {
        shape.mtu = said.mtu;
    }
    if duplicate.is_some() {
        shape.duplicate = said.duplicate;
    }
    if reorder.is_some() {
        shape.reorder = said.reorder;
    }
}

/// How the relay loses what a topology says is lost.
fn loss(loss: impairment::Loss) -> Loss {
    match loss {
        impairment::Loss::Uniform(share) => Loss::uniform(share.fraction()),
        impairment::Loss::Bursty(burst) => {
            Loss { share: burst.average.fraction(), burst: f64::from(burst.burst) }
        }
    }
}

fn reorder(of: impairment::Reorder) -> Reorder {
    Reorder { share: of.share.fraction(), by: of.by }
}

fn rate(of: &Impairment) -> Option<Rate> {
    let bits_per_second = of.rate?.bits_per_s();
    let queue_bytes = usize::try_from(of.queue_bytes()?).unwrap_or(usize::MAX);
    Some(Rate { bits_per_second, queue_bytes })
}
