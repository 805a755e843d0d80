//! How much a connection takes at once.

use std::{
    mem::size_of_val,
    os::fd::{AsFd, AsRawFd},
};

/// Words of the kernel's `struct tcp_info` (linux/tcp.h) up to `tcpi_snd_wnd`.
const WORDS: usize = 58;
const SND_MSS: usize = 4;
const SND_CWND: usize = 20;
const BYTES_ACKED: usize = 30;
const NOTSENT_BYTES: usize = 36;
const BYTES_SENT: usize = 50;
const BYTES_RETRANS: usize = 52;
const SND_WND: usize = 57;

/// Bytes that `socket` can be given before more than `unsent_limit` of them wait
/// unsent: what both windows (RFC 5681 §2) let out now, and what may wait. The
/// kernel keeps to `TCP_NOTSENT_LOWAT` only between buffers of up to 64 KiB.
///
/// Without bound where the kernel does not tell, as before Linux 5.4.
pub(super) fn room(socket: impl AsFd, unsent_limit: u32) -> usize {
    ask(socket).map_or(usize::MAX, |info| count(&info, unsent_limit))
}

fn count(info: &[u32; WORDS], unsent_limit: u32) -> usize {
    let of = |word: usize| u64::from(info[word]);
    let long = |word: usize| {
        let [low, high] = if cfg!(target_endian = "little") { [0, 1] } else { [1, 0] };
        of(word + low) | of(word + high) << 32
    };
    let in_flight = long(BYTES_SENT).saturating_sub(long(BYTES_RETRANS)).saturating_sub(long(BYTES_ACKED));
    let window = of(SND_WND).min(of(SND_CWND) * of(SND_MSS));
    let may_leave = window.saturating_sub(in_flight);
    let room = (may_leave + u64::from(unsent_limit)).saturating_sub(of(NOTSENT_BYTES));
    usize::try_from(room).unwrap_or(usize::MAX)
}

#[expect(unsafe_code, reason = "no library offers this option whole")]
fn ask(socket: impl AsFd) -> Option<[u32; WORDS]> {
    let mut info = [0u32; WORDS];
    let mut len = libc::socklen_t::try_from(size_of_val(&info)).ok()?;
    // SAFETY: the descriptor is open while it is borrowed, and the kernel writes
    // at most `len` bytes, which is what `info` has, of any value.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    (result == 0 && usize::try_from(len).ok()? == size_of_val(&info)).then_some(info)
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        net::{TcpListener, TcpStream},
    };

    use super::*;

    #[test]
    fn room_is_what_may_leave_and_what_may_wait() {
        let mut info = [0; WORDS];
        (info[SND_MSS], info[SND_CWND], info[SND_WND]) = (1_000, 50, 80_000);
        info[BYTES_SENT] = 100_000;
        info[BYTES_RETRANS] = 10_000;
        info[BYTES_ACKED] = 60_000;
        assert_eq!(count(&info, 32_000), 20_000 + 32_000, "the congestion window");
        info[SND_WND] = 35_000;
        assert_eq!(count(&info, 32_000), 5_000 + 32_000, "the other end's window");
        info[NOTSENT_BYTES] = 30_000;
        assert_eq!(count(&info, 32_000), 7_000, "some wait already");
        info[NOTSENT_BYTES] = 64_000;
        assert_eq!(count(&info, 32_000), 0, "more than enough wait");
        // As after four gigabytes.
        (info[BYTES_SENT + 1], info[BYTES_ACKED + 1], info[NOTSENT_BYTES]) = (1, 1, 0);
        assert_eq!(count(&info, 32_000), 5_000 + 32_000);
    }

    #[test]
    fn a_connection_that_nobody_reads_from_runs_out_of_room() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let _theirs = listener.accept().unwrap();
        ours.set_nonblocking(true).unwrap();
        let fresh = room(&ours, 32 << 10);
        assert!((32 << 10..16 << 20).contains(&fresh), "{fresh}");
        while ours.write(&[0; 64 << 10]).is_ok() {}
        assert_eq!(room(&ours, 4 << 10), 0);
    }

    #[test]
    fn what_is_no_connection_has_room() {
        assert_eq!(room(std::io::stdin(), 1), usize::MAX);
    }
}
