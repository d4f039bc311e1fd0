//! Ports that are free now and that nobody is given by chance.

use std::net::{IpAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Result, bail};

/// Below the kernel's ephemeral range (32768 and up), so that no outgoing connection takes a port between the check and its use.
const FIRST: u16 = 20_000;
const LAST: u16 = 32_000;

/// A port on which neither TCP nor UDP is taken.
pub fn free_port(ip: IpAddr) -> Result<u16> {
    free_range(ip, 1)
}

/// The first of `count` adjacent ports on which neither TCP nor UDP is taken. The same port is not given twice until all have been given.
pub fn free_range(ip: IpAddr, count: u16) -> Result<u16> {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    let span = LAST - FIRST;
    // Test programs that run at once begin at different places.
    let start = (std::process::id() % u32::from(span)) as u16;
    let mut tried = 0;
    while tried < span {
        let offset = GIVEN.fetch_add(count, Ordering::Relaxed) % span;
        tried += count;
        let first = FIRST + (start + offset) % span;
        if last_of(first, count) < LAST && (first..=last_of(first, count)).all(|port| is_free(ip, port)) {
            return Ok(first);
        }
    }
    bail!("no {count} adjacent ports are free on {ip} between {FIRST} and {LAST}")
}

fn last_of(first: u16, count: u16) -> u16 {
    first + count.saturating_sub(1)
}

fn is_free(ip: IpAddr, port: u16) -> bool {
    TcpListener::bind((ip, port)).is_ok() && UdpSocket::bind((ip, port)).is_ok()
}
