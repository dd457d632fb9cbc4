//! The bootstrap file, as a request's way needs it.

use std::sync::Arc;

use super::sockets::Addresses;
use crate::{
    authz::Gate,
    config::bootstrap::Config,
    http::{HttpLimits, io::Liveness},
    upstream::UpstreamLimits,
    worker::Settings,
};

pub(super) fn of(config: &Config, addresses: &Addresses) -> Settings {
    let workers = config.worker_count();
    Settings {
        http: http(config),
        upstream: upstream(config),
        handshake_timeout: config.timeouts.tls_handshake,
        tcp_idle_timeout: config.timeouts.tcp_idle,
        server_first_after: config.timeouts.detect,
        replay_bytes: config.limits.retry_buffer_bytes as usize,
        connections: (config.limits.max_connections as usize).div_ceil(workers),
        gate: Arc::new(gate(config, addresses)),
        service: own_service(config),
    }
}

fn gate(config: &Config, addresses: &Addresses) -> Gate {
    Gate {
        application: config.application.address,
        own_ports: addresses.own_ports(),
        application_ports: config.application.allowed_ports.clone(),
        trust_domain: config.identity.as_ref().and_then(|i| i.trust_domain.as_deref()).map(Arc::from),
    }
}

fn http(config: &Config) -> HttpLimits {
    let limits = &config.limits;
    HttpLimits {
        head_bytes: limits.header_bytes as usize,
        header_count: limits.header_count as usize,
        request_line_bytes: limits.request_line_bytes as usize,
        concurrent_streams: limits.max_concurrent_streams,
        resets_per_second: limits.max_resets_per_second,
        pending_resets: HttpLimits::default().pending_resets,
        stream_window: limits.stream_window_bytes,
        connection_window: limits.connection_window_bytes,
        send_buffer: limits.buffer_bytes as usize,
        head_timeout: config.timeouts.request_header,
        idle_timeout: config.timeouts.stream_idle,
    }
}

pub(super) fn liveness(config: &Config) -> Liveness {
    Liveness { ask_after: config.timeouts.keepalive, gone_after: config.timeouts.dead_peer }
}

fn upstream(config: &Config) -> UpstreamLimits {
    let (limits, pool) = (&config.limits, &config.pool);
    UpstreamLimits {
        connect_timeout: config.timeouts.connect,
        idle_timeout: pool.idle_timeout,
        max_age: pool.max_age,
        idle_per_endpoint: pool.max_idle_per_endpoint as usize,
        pending_per_endpoint: pool.max_pending_per_endpoint as usize,
        liveness: liveness(config),
        connections_per_endpoint: pool.max_connections_per_endpoint as usize,
        head_bytes: limits.header_bytes as usize,
        header_count: limits.header_count as usize,
        stream_window: limits.stream_window_bytes,
        connection_window: limits.connection_window_bytes,
        send_buffer: limits.buffer_bytes as usize,
    }
}

/// Our service, `namespace/name`.
pub(super) fn own_service(config: &Config) -> Arc<str> {
    config.node.service_label().map_or_else(|| Arc::from("unknown"), Arc::from)
}
