//! Machines of their own for nodes: Linux network namespaces on a bridge, so that what one node can reach another
//! one can't. Needs root and `ip` of iproute2.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// A bridge with two addresses of this machine on it, both reachable from every [`Host`] that isn't cut off from one.
/// Nothing outside reaches it.
pub struct Network {
    bridge: String,
    prefix: String,
    hosts: AtomicU32,
}

/// A network namespace on the bridge; it goes when the value is dropped.
pub struct Host {
    namespace: String,
    /// Its end of the line to the bridge, on this side.
    line: String,
    address: String,
}

impl Network {
    pub fn start() -> Self {
        // 198.18.0.0/15 is set aside for tests of networks (RFC 2544): no real network uses it.
        let free = (0..255).map(|third| format!("198.18.{third}")).find(|prefix| {
            let bridge = bridge_of(prefix);
            try_ip(&["link", "add", &bridge, "type", "bridge"]).is_ok()
        });
        let prefix = free.expect("a bridge: network namespaces need root and iproute2");
        let bridge = bridge_of(&prefix);
        let network = Self { bridge, prefix, hosts: AtomicU32::new(10) };
        for address in [network.first(), network.second()] {
            ip(&["address", "add", &format!("{address}/24"), "dev", &network.bridge]);
        }
        ip(&["link", "set", &network.bridge, "up"]);
        network
    }

    /// One address of this machine as hosts see it.
    pub fn first(&self) -> String {
        format!("{}.1", self.prefix)
    }

    /// The other one.
    pub fn second(&self) -> String {
        format!("{}.2", self.prefix)
    }

    /// A machine on the network.
    pub fn host(&self) -> Host {
        let number = self.hosts.fetch_add(1, Ordering::Relaxed);
        let address = format!("{}.{number}", self.prefix);
        let namespace = format!("{}-{number}", self.bridge);
        let (outer, inner) = (format!("{}o{number}", self.bridge), format!("{}i{number}", self.bridge));
        ip(&["netns", "add", &namespace]);
        let host = Host { namespace, line: outer, address };
        ip(&["link", "add", &host.line, "type", "veth", "peer", "name", &inner, "netns", &host.namespace]);
        ip(&["link", "set", &host.line, "master", &self.bridge, "up"]);
        host.ip(&["address", "add", &format!("{}/24", host.address), "dev", &inner]);
        host.ip(&["link", "set", "lo", "up"]);
        host.ip(&["link", "set", &inner, "up"]);
        host
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = try_ip(&["link", "delete", &self.bridge]);
    }
}

impl Host {
    /// The host's address.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The host no longer reaches an address.
    pub fn cut_off(&self, address: &str) {
        self.ip(&["route", "add", "unreachable", &format!("{address}/32")]);
    }

    /// It does again.
    pub fn reconnect(&self, address: &str) {
        self.ip(&["route", "delete", "unreachable", &format!("{address}/32")]);
    }

    /// `command` as this host runs it.
    pub fn command(&self, command: &Command) -> Command {
        let mut inside = Command::new("ip");
        inside.args(["netns", "exec", &self.namespace]).arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => inside.env(key, value),
                None => inside.env_remove(key),
            };
        }
        inside
    }

    fn ip(&self, arguments: &[&str]) {
        ip(&[&["-n", &self.namespace], arguments].concat());
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // By itself it would go some time after its namespace, and its name is used again.
        let _ = try_ip(&["link", "delete", &self.line]);
        let _ = try_ip(&["netns", "delete", &self.namespace]);
    }
}

fn bridge_of(prefix: &str) -> String {
    format!("drv{}", prefix.rsplit('.').next().unwrap_or_default())
}

#[track_caller]
fn ip(arguments: &[&str]) {
    try_ip(arguments).unwrap_or_else(|error| panic!("ip {}: {error}", arguments.join(" ")));
}

fn try_ip(arguments: &[&str]) -> Result<(), String> {
    let output =
        Command::new("ip").args(arguments).output().map_err(|error| format!("iproute2 is missing: {error}"))?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()) }
}
