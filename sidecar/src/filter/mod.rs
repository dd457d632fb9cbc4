//! Filters: the phases in which something may decide about a request, behind one trait.
