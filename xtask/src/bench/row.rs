//! The rows of the table, and what is to be reached in each.

use clap::builder::PossibleValuesParser;

/// One comparison.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) scene: Scene,
    pub(crate) measure: Measure,
    pub(crate) targets: &'static [Target],
}

/// What is set up between the load and the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scene {
    /// One proxy in plain text; the client speaks HTTP/1.1 or HTTP/2, the backend HTTP/1.1.
    OneHop(Version),
    /// HTTP/1.1 to an outbound proxy, HTTP/2 over mTLS to an inbound one, HTTP/1.1 to the backend.
    MeshPair,
    /// A control plane and the sidecars that follow it; ours alone.
    ControlPlane,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    Http1,
    Http2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measure {
    /// Microseconds of CPU time per request, of all processes of the scene together.
    CpuPerRequest(Answer),
    /// KiB of resident memory per idle keep-alive connection.
    IdleConnection,
    /// MB of resident memory before the first request.
    IdleMemory,
    /// Milliseconds from the start of the process to the first accepted connection.
    Start,
    /// Milliseconds from the begin of an Apply until the last of the sidecars has acknowledged it.
    Acknowledged,
    /// KiB of resident memory of the control plane per policy stream.
    PerStream,
    /// Microseconds of CPU time of the control plane per certificate.
    CpuPerIdentity(Identity),
}

/// How a certificate is had. A connection of its own belongs to both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    Join,
    Renew,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Small,
    Big,
}

/// What ours is told beside, and the most that it may be: as a ratio to another or in the row's own unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Target {
    OfEnvoy(f64),
    /// The ratio alone, where the bound is an absolute one.
    BesideEnvoy,
    OfHaproxy(f64),
    OfTheBetterOfNginxAndHaproxy(f64),
    Absolute(f64),
}

const ONE_HOP_1: Scene = Scene::OneHop(Version::Http1);
const ONE_HOP_2: Scene = Scene::OneHop(Version::Http2);
const SMALL: Measure = Measure::CpuPerRequest(Answer::Small);
const BIG: Measure = Measure::CpuPerRequest(Answer::Big);

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "h1-small",
        title: "one hop, HTTP/1.1, 35 B answers",
        scene: ONE_HOP_1,
        measure: SMALL,
        targets: &[Target::OfEnvoy(0.50), Target::OfTheBetterOfNginxAndHaproxy(1.15)],
    },
    Row {
        name: "h1-100k",
        title: "one hop, HTTP/1.1, 100 kB answers",
        scene: ONE_HOP_1,
        measure: BIG,
        targets: &[Target::OfEnvoy(0.70), Target::OfHaproxy(1.0)],
    },
    Row {
        name: "h2-small",
        title: "one hop, HTTP/2 to HTTP/1.1, 35 B answers",
        scene: ONE_HOP_2,
        measure: SMALL,
        targets: &[Target::OfEnvoy(0.40)],
    },
    Row {
        name: "h2-100k",
        title: "one hop, HTTP/2 to HTTP/1.1, 100 kB answers",
        scene: ONE_HOP_2,
        measure: BIG,
        targets: &[Target::OfEnvoy(0.70), Target::OfHaproxy(1.0)],
    },
    Row {
        name: "mesh-small",
        title: "mesh pair, mTLS, 35 B answers",
        scene: Scene::MeshPair,
        measure: SMALL,
        targets: &[Target::OfEnvoy(0.40)],
    },
    Row {
        name: "mesh-100k",
        title: "mesh pair, mTLS, 100 kB answers",
        scene: Scene::MeshPair,
        measure: BIG,
        targets: &[Target::OfEnvoy(0.50)],
    },
    Row {
        name: "idle-connection",
        title: "resident memory per idle connection",
        scene: ONE_HOP_1,
        measure: Measure::IdleConnection,
        targets: &[Target::Absolute(12.0), Target::BesideEnvoy],
    },
    Row {
        name: "idle-memory",
        title: "resident memory, idle",
        scene: ONE_HOP_1,
        measure: Measure::IdleMemory,
        targets: &[Target::Absolute(12.0), Target::BesideEnvoy],
    },
    Row {
        name: "start",
        title: "start to the first accepted connection",
        scene: ONE_HOP_1,
        measure: Measure::Start,
        targets: &[Target::Absolute(18.0), Target::BesideEnvoy],
    },
    Row {
        name: "control-apply",
        title: "control plane: Apply to the last of 100 acknowledgements",
        scene: Scene::ControlPlane,
        measure: Measure::Acknowledged,
        targets: &[Target::Absolute(50.0)],
    },
    Row {
        name: "control-memory",
        title: "control plane: resident memory per connected sidecar",
        scene: Scene::ControlPlane,
        measure: Measure::PerStream,
        targets: &[Target::Absolute(19.5)],
    },
    Row {
        name: "control-join",
        title: "control plane: a first certificate for a token",
        scene: Scene::ControlPlane,
        measure: Measure::CpuPerIdentity(Identity::Join),
        targets: &[Target::Absolute(1000.0)],
    },
    Row {
        name: "control-renew",
        title: "control plane: the next certificate",
        scene: Scene::ControlPlane,
        measure: Measure::CpuPerIdentity(Identity::Renew),
        targets: &[Target::Absolute(1000.0)],
    },
];

impl Scene {
    /// Whether others are played beside ours.
    pub(crate) fn has_peers(self) -> bool {
        self != Self::ControlPlane
    }
}

impl Measure {
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::CpuPerRequest(_) => "us CPU/request",
            Self::IdleMemory => "MB",
            Self::Start | Self::Acknowledged => "ms",
            Self::IdleConnection | Self::PerStream => "KiB",
            Self::CpuPerIdentity(_) => "us CPU/identity",
        }
    }
}

impl Answer {
    /// Below the route that the load asks for.
    pub(crate) fn file(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Big => "big",
        }
    }

    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::Small => 35,
            Self::Big => 100_000,
        }
    }
}

/// What `--rows` accepts.
pub(crate) fn names() -> PossibleValuesParser {
    PossibleValuesParser::new(ROWS.iter().map(|row| row.name))
}

/// The named rows in the table's order; all if none is named.
pub(crate) fn select(names: &[String]) -> impl Iterator<Item = &'static Row> {
    ROWS.iter().filter(|row| names.is_empty() || names.iter().any(|name| name == row.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_chosen_by_name_and_keep_the_tables_order() {
        let chosen = ["start".to_owned(), "h1-100k".to_owned()];
        assert_eq!(select(&chosen).map(|row| row.name).collect::<Vec<_>>(), ["h1-100k", "start"]);
        assert_eq!(select(&[]).count(), ROWS.len());
    }

    #[test]
    fn every_row_tells_its_ratio_to_envoy_where_envoy_has_a_part() {
        let beside = |target: &Target| matches!(target, Target::OfEnvoy(_) | Target::BesideEnvoy);
        for row in ROWS {
            let told = row.targets.iter().any(beside);
            assert_eq!(told, row.scene.has_peers(), "the ratio to Envoy of {}", row.name);
        }
    }
}
