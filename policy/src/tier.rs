//! How far a group is from a caller.

use model::decision::distance;
use model::ids::SiteId;
use model::locality::Locality;
use model::routing::{FailoverPolicy, GroupId};
use std::time::Duration;

/// Orders groups by distance; groups with equal keys are one tier.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TierKey {
    class: Class,
    /// Place in the declared order; those that are not in it come after.
    declared: usize,
    /// Other regions only: place by round trip, then the name of the site. So each site is a tier of its own there.
    by_rtt: Option<(usize, Option<Duration>, SiteId)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    SameZone,
    SameRegion,
    /// This site, where the region of the caller or of the group is not known: nearer than any other site.
    SameSite,
    SameRegionOtherSite,
    OtherRegion,
}

/// Where a caller stands, and what orders the sites for it.
#[derive(Debug, Clone, Copy)]
pub struct Viewpoint<'a> {
    /// Site of the process that decides.
    pub own: &'a SiteId,
    /// Locality of the caller.
    pub locality: &'a Locality,
    /// Declared order.
    pub policy: &'a FailoverPolicy,
    /// Sites by round trip, as [`crate::memory::order::Order`] keeps them.
    pub by_rtt: &'a [SiteId],
}

impl TierKey {
    /// The key of a group; `rtt` is that of its peer.
    pub fn of(id: &GroupId, rtt: Option<Duration>, from: &Viewpoint<'_>) -> Self {
        let is_own = id.site == *from.own;
        let unknown = id.locality.region.is_empty() || from.locality.region.is_empty();
        let class = match is_own {
            true if from.locality.same_zone(&id.locality) => Class::SameZone,
            true if from.locality.same_region(&id.locality) => Class::SameRegion,
            true if unknown => Class::SameSite,
            false if from.locality.same_region(&id.locality) => Class::SameRegionOtherSite,
            true | false => Class::OtherRegion,
        };
        let far = matches!(class, Class::SameRegionOtherSite | Class::OtherRegion);
        let declared = from.policy.order.iter().position(|site| *site == id.site);
        let declared = match (declared, is_own) {
            _ if !far => 0,
            (Some(place), _) => place + 1,
            // The own site, in another region, comes before every site that was not put before it.
            (None, true) => 0,
            (None, false) => usize::MAX,
        };
        let by_rtt = (class == Class::OtherRegion).then(|| {
            let place = from.by_rtt.iter().position(|site| *site == id.site);
            // Sites without a place are new: by what is known of them, after the others. The own site is first.
            let place = if is_own { 0 } else { place.map_or(usize::MAX, |place| place + 1) };
            let rtt = if place == usize::MAX { rtt.or(Some(Duration::MAX)) } else { None };
            (place, rtt, id.site.clone())
        });
        Self { class, declared, by_rtt }
    }

    /// The distance, in words; `own`: the group is of the own site.
    pub fn distance(&self, own: bool) -> &'static str {
        match self.class {
            Class::SameZone => distance::SAME_ZONE,
            Class::SameRegion => distance::SAME_REGION,
            Class::SameSite => distance::SAME_SITE,
            Class::SameRegionOtherSite => distance::SAME_REGION_OTHER_SITE,
            Class::OtherRegion if own => distance::SAME_SITE,
            Class::OtherRegion => distance::OTHER_REGION,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::service::Subset;

    fn id(text: &str) -> GroupId {
        let (site, locality) = text.split_once(' ').unwrap_or((text, ""));
        GroupId {
            site: site.parse().expect("valid"),
            locality: locality.parse().expect("valid"),
            subset: Subset::default(),
        }
    }

    /// Orders groups for a caller of `west` at `locality`; groups of one tier are joined by ` + `.
    fn check(locality: &str, order: &[&str], by_rtt: &[&str], groups: &[&str], expected: &str) {
        let own = "west".parse().expect("valid");
        let locality = locality.parse().expect("valid");
        let sites =
            |names: &[&str]| names.iter().map(|name| name.parse().expect("valid")).collect::<Vec<SiteId>>();
        let policy = FailoverPolicy { order: sites(order), ..FailoverPolicy::default() };
        let by_rtt = sites(by_rtt);
        let from = Viewpoint { own: &own, locality: &locality, policy: &policy, by_rtt: &by_rtt };
        let mut keyed: Vec<_> =
            groups.iter().map(|text| (TierKey::of(&id(text), None, &from), *text)).collect();
        keyed.sort();
        let mut tiers: Vec<String> = Vec::new();
        for (at, (key, text)) in keyed.iter().enumerate() {
            match tiers.last_mut().filter(|_| at > 0 && keyed[at - 1].0 == *key) {
                Some(last) => last.push_str(&format!(" + {text}")),
                None => tiers.push((*text).to_owned()),
            }
        }
        assert_eq!(tiers.join(" > "), expected);
    }

    #[test]
    fn near_comes_before_far() {
        check(
            "us/sjc/a",
            &[],
            &["dc", "east"],
            &[
                "east eu/fra",
                "dc eu/ams",
                "north us/sea",
                "south us/dal",
                "west us/sjc",
                "west us/lax",
                "west us/sjc/b",
            ],
            "west us/sjc + west us/sjc/b > west us/lax > north us/sea + south us/dal > dc eu/ams > east eu/fra",
        );
    }

    #[test]
    fn the_declared_order_goes_before_the_round_trip() {
        check(
            "us",
            &["east"],
            &["dc", "east"],
            &["dc eu", "east eu", "west us"],
            "west us > east eu > dc eu",
        );
        check("us", &["south"], &[], &["north us", "south us", "west us"], "west us > south us > north us");
    }

    #[test]
    fn the_own_site_is_near_when_regions_are_unknown() {
        check("", &["dc"], &["dc"], &["dc eu", "west"], "west > dc eu");
        check("us", &[], &["dc"], &["dc us", "west"], "west > dc us");
        check("", &[], &["dc"], &["dc", "west"], "west > dc");
    }

    #[test]
    fn another_region_of_the_own_site_comes_before_other_sites_there() {
        check("us", &[], &["dc"], &["dc eu", "north us", "west eu"], "north us > west eu > dc eu");
        check(
            "us",
            &["dc", "west"],
            &["dc"],
            &["dc eu", "north us", "west eu"],
            "north us > dc eu > west eu",
        );
    }

    #[test]
    fn sites_of_unknown_round_trip_come_last_by_name() {
        check("us", &[], &["dc"], &["b eu", "a eu", "dc eu"], "dc eu > a eu > b eu");
    }
}
