//! The process's end of telemetry: one [`TelemetryHub`], from which each worker takes its [`super::Telemetry`].

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use opentelemetry::KeyValue;
use trama_proto::span::key;

use super::{
    Telemetry,
    access_log::{AccessLog, LogOutput},
    metrics::{self, ConnectionCount, Families, Format, ProcessMetrics, Sources},
    pulse::Pulses,
    trace::{Exporter, ExporterSettings, ReceiverTls},
};

/// Who we are and where our telling goes.
#[derive(Clone, Debug, Default)]
pub struct TelemetryConfig {
    /// Where the access log goes.
    pub access_log: LogOutput,
    /// Who receives spans by OTLP over gRPC, as `http://host:port` or `https://host:port`; `None`: nobody.
    pub otlp_endpoint: Option<String>,
    /// The TLS with a receiver whose address says `https`.
    pub otlp_tls: Option<ReceiverTls>,
    /// Our workload, OpenTelemetry's `service.name`.
    pub service: String,
    /// Its namespace, OpenTelemetry's `service.namespace`.
    pub namespace: String,
    /// Its region, `cloud.region`.
    pub region: String,
}

/// Where the workers' telling comes together. Cheap to clone; lives as long as the process.
#[derive(Clone, Debug)]
pub struct TelemetryHub {
    sources: Arc<Sources>,
    log: Option<AccessLog>,
    exporter: Option<Exporter>,
    pulses: Arc<Pulses>,
}

impl TelemetryHub {
    /// Opens the outputs. Must be called on the runtime that shall send spans: the control side's.
    pub fn start(config: TelemetryConfig) -> io::Result<Self> {
        let families = Families::default();
        let sources = Arc::new(Sources { families, process: ProcessMetrics::new(SystemTime::now()) });
        let log = AccessLog::start(&config.access_log, &sources)?;
        let exporter = exporter(config, &sources)?;
        Ok(Self { sources, log, exporter, pulses: Arc::new(Pulses::new(Instant::now())) })
    }

    /// What one more worker tells with; to be called on the worker's thread, once.
    pub fn worker(&self) -> Telemetry {
        let pulse = self.pulses.worker(Instant::now());
        Telemetry::new(&self.sources.families, self.log.clone(), self.exporter.clone(), pulse)
    }

    /// What is counted once per process.
    pub fn process(&self) -> &ProcessMetrics {
        &self.sources.process
    }

    /// All metrics as text. Workers do not wait for it.
    pub fn scrape(&self, format: Format) -> String {
        metrics::scrape(&self.sources, format)
    }

    /// Connections opened and open, by direction, peer and protection.
    pub fn connections(&self) -> Vec<ConnectionCount> {
        metrics::connections(&self.sources.families)
    }

    /// How long ago the quietest worker gave a sign of life.
    pub fn stalled_for(&self) -> Duration {
        self.pulses.stalled_for(Instant::now())
    }

    /// Has the access log's file opened anew, for who has moved it away; never waits. `false`: the log goes to no file.
    pub fn reopen_log(&self) -> bool {
        self.log.as_ref().is_some_and(AccessLog::reopen)
    }

    /// Waits until log and spans are out, at the process's end. `false`: some were not in time.
    pub async fn flush(&self, deadline: Duration) -> bool {
        let log = self.log.clone();
        let written = tokio::task::spawn_blocking(move || log.is_none_or(|log| log.flush(deadline)));
        let sent = match &self.exporter {
            Some(exporter) => exporter.flush(deadline).await,
            None => true,
        };
        written.await.unwrap_or(false) && sent
    }
}

fn exporter(config: TelemetryConfig, sources: &Arc<Sources>) -> io::Result<Option<Exporter>> {
    let Some(endpoint) = config.otlp_endpoint else { return Ok(None) };
    let explain =
        |e: String| io::Error::new(io::ErrorKind::InvalidInput, format!("trace receiver `{endpoint}`: {e}"));
    // Never in the clear what was to be sealed.
    match (endpoint.split_once("://"), &config.otlp_tls) {
        (Some(("http", _)), None) | (Some(("https", _)), Some(_)) => {}
        (Some(("https", _)), None) => return Err(explain("nothing is known of its TLS".to_owned())),
        _ => return Err(explain("neither http://host:port nor https://host:port".to_owned())),
    }
    let known = [
        (key::SERVICE_NAME, config.service),
        (key::SERVICE_NAMESPACE, config.namespace),
        (key::CLOUD_REGION, config.region),
    ];
    let resource =
        known.into_iter().filter(|(_, v)| !v.is_empty()).map(|(k, v)| KeyValue::new(k, v)).collect();
    let settings = ExporterSettings { endpoint: endpoint.clone(), tls: config.otlp_tls, resource };
    Exporter::start(settings, sources).map(Some).map_err(|e| explain(e.to_string()))
}
