//! Which one of several, by weight, by open streams, or by a key.

use fastrand::Rng;

/// Draws an index in proportion to the weights; none when there are none. A weight of 0 counts as 1: whoever is
/// offered can be drawn.
pub fn by_weight(rng: &mut Rng, weights: &[u64]) -> Option<usize> {
    let sum: u128 = weights.iter().map(|weight| u128::from((*weight).max(1))).sum();
    if sum == 0 {
        return None;
    }
    let mut point = rng.u128(0..sum);
    weights.iter().position(|weight| {
        let weight = u128::from((*weight).max(1));
        let here = point < weight;
        point = point.saturating_sub(weight);
        here
    })
}

/// Draws a share; `point` lies in 0 to 1. Shares of 0 are never drawn.
pub fn by_share(point: f64, shares: &[f64]) -> Option<usize> {
    let mut below = 0.0;
    let mut last = None;
    for (at, share) in shares.iter().enumerate() {
        if *share <= 0.0 {
            continue;
        }
        below += share;
        last = Some(at);
        if point < below {
            return last;
        }
    }
    // Rounding may leave a sliver above the sum.
    last
}

/// One that could be picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// Share of the load.
    pub weight: u32,
    /// Open streams.
    pub open: u32,
}

/// Two drawn by weight, of which the one with fewer open streams for its weight was picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pick {
    /// Picked.
    pub chosen: usize,
    /// The other one; none when there was only one.
    pub other: Option<usize>,
}

/// The one with fewer open streams, for its weight, of two that are drawn by weight.
pub fn by_least_open(rng: &mut Rng, offers: &[Offer]) -> Option<Pick> {
    let mut weights: Vec<u64> = offers.iter().map(|offer| u64::from(offer.weight)).collect();
    let first = by_weight(rng, &weights)?;
    weights.remove(first);
    let Some(second) = by_weight(rng, &weights) else {
        return Some(Pick { chosen: first, other: None });
    };
    let second = if second < first { second } else { second + 1 };
    let load = |at: usize, other: usize| u64::from(offers[at].open) * u64::from(offers[other].weight.max(1));
    if load(second, first) < load(first, second) {
        Some(Pick { chosen: second, other: Some(first) })
    } else {
        Some(Pick { chosen: first, other: Some(second) })
    }
}

/// The one to which a key belongs (highest random weight): it changes only for the keys of one that comes or goes.
pub fn by_key<'a>(key: u64, offers: impl Iterator<Item = (&'a [u8], u64)>) -> Option<usize> {
    let score = |(name, weight): (&[u8], u64)| {
        let point = to_unit(hash(key, name));
        // -w / ln(u) is greatest for each with a probability in proportion to its weight.
        let weight = u32::try_from(weight.max(1)).unwrap_or(u32::MAX);
        -f64::from(weight) / point.ln()
    };
    offers.map(score).enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(at, _)| at)
}

/// A hash that is the same in every process and version: FNV-1a, finished with the mixer of SplitMix64.
pub fn hash(key: u64, bytes: &[u8]) -> u64 {
    let mut state = 0xcbf2_9ce4_8422_2325_u64 ^ key;
    for byte in bytes {
        state = (state ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

/// A number strictly between 0 and 1.
pub fn to_unit(random: u64) -> f64 {
    // 52 bits fit a double exactly, and the half keeps both ends out.
    #[expect(clippy::cast_precision_loss, reason = "52 bits fit")]
    let bits = (random >> 12) as f64;
    (bits + 0.5) / 4_503_599_627_370_496.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(draws: u32, mut draw: impl FnMut(&mut Rng) -> usize) -> Vec<u32> {
        let mut rng = Rng::with_seed(7);
        let mut counts = vec![0; 3];
        (0..draws).for_each(|_| counts[draw(&mut rng)] += 1);
        counts
    }

    #[test]
    fn a_draw_is_in_proportion_to_the_weights() {
        let counts = count(10_000, |rng| by_weight(rng, &[1, 2, 7]).expect("some"));
        assert!((900..1_100).contains(&counts[0]), "{counts:?}");
        assert!((6_800..7_200).contains(&counts[2]), "{counts:?}");
        let mut rng = Rng::with_seed(1);
        assert_eq!(by_weight(&mut rng, &[]), None);
        assert_eq!(by_weight(&mut rng, &[0]), Some(0));
        assert!(by_weight(&mut rng, &[u64::MAX, u64::MAX, u64::MAX]).is_some());
    }

    #[test]
    fn of_two_the_less_busy_is_picked() {
        let offers = [Offer { weight: 1, open: 3 }, Offer { weight: 1, open: 4 }];
        let counts = count(100, |rng| by_least_open(rng, &offers).expect("some").chosen);
        assert_eq!(counts, [100, 0, 0]);
        // Four streams on weight 4 are fewer than two on weight 1.
        let offers = [Offer { weight: 1, open: 2 }, Offer { weight: 4, open: 4 }];
        let counts = count(100, |rng| by_least_open(rng, &offers).expect("some").chosen);
        assert_eq!(counts, [0, 100, 0]);
    }

    #[test]
    fn idle_endpoints_get_load_by_weight() {
        let offers = [1, 1, 8].map(|weight| Offer { weight, open: 0 });
        let counts = count(10_000, |rng| by_least_open(rng, &offers).expect("some").chosen);
        assert!((7_700..8_300).contains(&counts[2]), "{counts:?}");
        assert_eq!(by_least_open(&mut Rng::with_seed(1), &[]), None);
        assert_eq!(
            by_least_open(&mut Rng::with_seed(1), &offers[..1]),
            Some(Pick { chosen: 0, other: None })
        );
    }

    #[test]
    fn a_share_of_nothing_is_never_drawn() {
        assert_eq!(by_share(0.0, &[0.0, 0.4, 0.6]), Some(1));
        assert_eq!(by_share(0.5, &[0.0, 0.4, 0.6]), Some(2));
        assert_eq!(by_share(1.0, &[0.0, 0.4, 0.6, 0.0]), Some(2));
        assert_eq!(by_share(0.5, &[0.0]), None);
    }

    #[test]
    fn a_key_moves_only_when_its_own_goes() {
        let names: Vec<String> = (0..10).map(|n| format!("e{n}")).collect();
        let pick = |key, without: Option<usize>| {
            let kept: Vec<usize> = (0..10).filter(|at| Some(*at) != without).collect();
            let offers = kept.iter().map(|at| (names[*at].as_bytes(), 1));
            kept[by_key(key, offers).expect("some")]
        };
        for key in 0..1_000 {
            let before = pick(key, None);
            let gone = (key % 10) as usize;
            let after = pick(key, Some(gone));
            assert!(after == before || before == gone);
        }
        let counts = count(3_000, |rng| {
            by_key(rng.u64(..), [(&b"a"[..], 1), (b"b", 1), (b"c", 4)].into_iter()).expect("some")
        });
        assert!((1_850..2_150).contains(&counts[2]), "{counts:?}");
    }
}
