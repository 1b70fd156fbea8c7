//! What this process takes of the machine, as the kernel tells it when it is asked.

use std::{fmt, fs};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};

/// The kernel counts processor time for programs in hundredths of a second, whatever its own clock.
const TICKS_PER_SECOND: f64 = 100.0;

/// Memory, processor time and open files of this process; what the kernel doesn't tell is left out.
#[derive(Debug)]
pub struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut put = |name: &str, help: &str, unit: Option<&Unit>, metric: &dyn Metric| {
            metric.put(encoder.encode_descriptor(name, help, unit, metric.metric_type())?)
        };
        if let Some(bytes) = resident_bytes() {
            put("process_resident_memory", "Memory in use", Some(&Unit::Bytes), &ConstGauge::new(bytes))?;
        }
        if let Some(seconds) = cpu_seconds() {
            put("process_cpu", "Processor time used", Some(&Unit::Seconds), &ConstCounter::new(seconds))?;
        }
        if let Some(count) = open_files() {
            put("process_open_fds", "Open files and connections", None, &ConstGauge::new(count))?;
        }
        Ok(())
    }
}

/// [`EncodeMetric`] as an object.
trait Metric {
    fn put(&self, encoder: prometheus_client::encoding::MetricEncoder<'_>) -> fmt::Result;
    fn metric_type(&self) -> prometheus_client::metrics::MetricType;
}

impl<M: EncodeMetric> Metric for M {
    fn put(&self, encoder: prometheus_client::encoding::MetricEncoder<'_>) -> fmt::Result {
        self.encode(encoder)
    }

    fn metric_type(&self) -> prometheus_client::metrics::MetricType {
        EncodeMetric::metric_type(self)
    }
}

fn resident_bytes() -> Option<i64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<i64>().ok().map(|kibibytes| kibibytes * 1024)
}

fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name, in parentheses, may hold anything. After it the state is field 0, user and system time 11 and 12.
    let (_, fields) = stat.rsplit_once(')')?;
    let times = fields.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<f64>().ok());
    times.sum::<Option<f64>>().map(|ticks| ticks / TICKS_PER_SECOND)
}

fn open_files() -> Option<i64> {
    fs::read_dir("/proc/self/fd").ok().map(|files| files.count() as i64)
}
