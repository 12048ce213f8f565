//! What a subscriber asks for.

use quorumwatch::proto::v1::Filter;

/// What a subscriber asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Everything.
    Everything,
    /// Clusters of two tiers.
    Tiers,
    /// All objects of clusters of one tier, and a third of those of clusters of another.
    Parts,
}

impl Scope {
    /// The same as the API has it.
    pub(super) fn filters(self) -> Vec<Filter> {
        let tiers = |selector: &str| Filter {
            cluster_selector: selector.into(),
            ..Filter::default()
        };
        match self {
            Self::Everything => Vec::new(),
            Self::Tiers => vec![tiers("tier in (a,b)")],
            Self::Parts => {
                let part = Filter {
                    object_selector: "part=0".into(),
                    ..tiers("tier in (a,b)")
                };
                vec![tiers("tier=a"), part]
            }
        }
    }

    /// Whether it has an object of this part, in a cluster of this tier.
    pub(crate) fn has(self, tier: &str, part: Option<u64>) -> bool {
        match self {
            Self::Everything => true,
            Self::Tiers => self.has_cluster(tier),
            Self::Parts => tier == "a" || tier == "b" && part == Some(0),
        }
    }

    /// Whether it has a cluster of this tier, or a part of it.
    pub(crate) fn has_cluster(self, tier: &str) -> bool {
        self == Self::Everything || ["a", "b"].contains(&tier)
    }

    /// Whether it has every object of the clusters that it has.
    pub(crate) fn is_whole(self) -> bool {
        self != Self::Parts
    }
}
