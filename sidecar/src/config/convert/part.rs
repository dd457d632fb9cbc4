//! How much of a policy is known, and what must not be served because of what is not.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

/// How much of a policy its documents are.
#[derive(Clone, Copy, Debug)]
pub enum Extent<'a> {
    /// All of it.
    Whole,
    /// A part.
    Part(&'a Part),
}

/// All names and addresses of services, and what concerns some of them. What else is known of the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// The services of which all is known that a call to them needs, `namespace/name`.
    pub whole: BTreeSet<Arc<str>>,
    /// Services of which it is not known who may call them: nobody may.
    pub shut: BTreeSet<Arc<str>>,
    /// Services of which it is not known which regions may serve them: none may.
    pub unplaced: BTreeSet<Arc<str>>,
    /// Where the endpoints of services are, whatever else is known of them.
    pub endpoints: Vec<(Arc<str>, Arc<[EndpointAddress]>)>,
    /// Services of which nothing is known but their addresses.
    pub nameless: BTreeMap<IpAddr, Arc<str>>,
    /// Whether the settings of the mesh are there and not known: then nothing passes plainly.
    pub strict: bool,
}

/// The address of an endpoint of which nothing else need be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndpointAddress {
    /// The address.
    pub address: IpAddr,
    /// The port of its application, if it says one.
    pub port: Option<u16>,
    /// The port of the service that it serves, if it says one.
    pub service_port: Option<u16>,
}

impl Part {
    /// What is known where nothing is wrong, and all of these services.
    pub fn of<'s>(whole: impl IntoIterator<Item = &'s str>) -> Self {
        Self { whole: whole.into_iter().map(Arc::from).collect(), ..Self::default() }
    }
}

impl<'a> Extent<'a> {
    pub(super) fn part(self) -> Option<&'a Part> {
        match self {
            Self::Whole => None,
            Self::Part(part) => Some(part),
        }
    }

    /// Whether all is known that a call to a service needs.
    pub(super) fn covers(self, service: &str) -> bool {
        self.part().is_none_or(|part| part.whole.contains(service))
    }

    /// Whether it is known which regions may serve a service.
    pub(super) fn places(self, service: &str) -> bool {
        self.part().is_none_or(|part| !part.unplaced.contains(service))
    }
}
