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

/// Writes a change into the shape of a way; what it does not name stays.
pub fn apply(change: &Change, shape: &mut Shape) {
    if let Some(cut) = change.cut {
        shape.cut = cut;
    }
    if let Some(delay) = change.delay {
        shape.delay = delay.0;
    }
    if let Some(jitter) = change.jitter {
        shape.jitter = Jitter { spread: jitter.0, ..Jitter::default() };
    }
    if let Some(loss) = change.loss {
        shape.loss = self::loss(loss);
    }
    if let Some(mtu) = change.mtu {
        shape.mtu = Some(mtu.into());
    }
    if let Some(share) = change.duplicate {
        shape.duplicate = share.fraction();
    }
    if let Some(reordered) = change.reorder {
        shape.reorder = reorder(reordered);
    }
    if change.rate.is_some() || change.queue.is_some() {
        let of = Impairment { rate: change.rate, queue: change.queue, ..Impairment::NONE };
        shape.rate = rate(&of).or(shape.rate);
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
