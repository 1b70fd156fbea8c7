//! How things stand when `/metrics` is asked for: requests that wait, nodes and their load, the age of the table.

use std::{fmt, sync::Arc};

use jiff::Timestamp;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
    registry::Unit,
};

use crate::{domain::routing::Standing, gateway::balance::Balance, routing_table::Freshness};

/// Reads them off.
#[derive(Debug)]
pub struct Gauges {
    /// The nodes, and who waits for them.
    pub balance: Arc<Balance>,
    /// When the table was last known to be right.
    pub freshness: Freshness,
}

impl Collector for Gauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let waiting = ConstGauge::new(self.balance.waiting() as i64);
        let help = "Requests that wait for a place on a node";
        let metric = encoder.encode_descriptor("gateway_queued_requests", help, None, MetricType::Gauge)?;
        waiting.encode(metric)?;
        if let Some(age) = self.freshness.age(Timestamp::now()) {
            let help = "Time since the routing table was last known to be what the Kubernetes API has";
            let unit = Unit::Seconds;
            let metric = encoder.encode_descriptor("gateway_table_age", help, Some(&unit), MetricType::Gauge)?;
            ConstGauge::new(age.as_secs_f64()).encode(metric)?;
        }
        let nodes = self.balance.nodes();
        let help = "Requests of this gateway under way on a node";
        let name = "gateway_node_in_flight_requests";
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (node, (in_flight, _), _) in &nodes {
            ConstGauge::new(i64::from(*in_flight)).encode(metric.encode_family(&[("node", node.as_str())])?)?;
        }
        let help = "1 while a node gets requests last because its answers failed";
        let mut metric = encoder.encode_descriptor("gateway_node_aside", help, None, MetricType::Gauge)?;
        for (node, _, standing) in &nodes {
            let aside = ConstGauge::new(i64::from(*standing != Standing::Sound));
            aside.encode(metric.encode_family(&[("node", node.as_str())])?)?;
        }
        Ok(())
    }
}
