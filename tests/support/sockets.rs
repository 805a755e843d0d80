//! What the kernel holds for the sockets of a server.

use std::process::Command;

/// Sending side of all connections of one port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SendMemory {
    /// Connections.
    pub(crate) count: usize,
    /// Charged for sending, less the payload.
    pub(crate) bytes: u64,
    /// Payload not acknowledged yet or not sent.
    pub(crate) queued: u64,
}

/// Asks `ss` for the connections whose own port is `port`, or says why it
/// cannot be done here.
pub(crate) fn private_send_memory(port: u16) -> Result<SendMemory, String> {
    let filter = format!("sport = :{port}");
    let output = Command::new("ss").args(["-Htmn", "state", "connected", &filter]).output();
    let output = output.map_err(|e| format!("ss: {e}"))?;
    if !output.status.success() {
        return Err(format!("ss: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    Ok(parse(&String::from_utf8_lossy(&output.stdout)))
}

/// Lines of `State Recv-Q Send-Q … skmem:(r0,rb131072,t0,tb87040,f0,w0,…)`,
/// the part in brackets on a line of its own or not.
pub(crate) fn parse(text: &str) -> SendMemory {
    let mut sum = SendMemory::default();
    let mut queued = 0;
    for line in text.lines() {
        let (before, memory) = line.split_once("skmem:(").map_or((line, None), |(b, m)| (b, Some(m)));
        if let Some(send_queue) = before.split_whitespace().nth(2).and_then(|q| q.parse().ok()) {
            queued = send_queue;
        }
        let Some(memory) = memory else { continue };
        let field = |name: &str| {
            let fields = memory.split([',', ')']);
            fields.filter_map(|f| f.strip_prefix(name)?.parse::<u64>().ok()).next().unwrap_or(0)
        };
        sum.count += 1;
        sum.queued += queued;
        sum.bytes += field("w").saturating_sub(queued);
    }
    sum
}
