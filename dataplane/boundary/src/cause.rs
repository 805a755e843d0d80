//! Why things end: closed lists, the same words in answers, logs and metrics.

macro_rules! closed_list {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
        #[serde(rename_all = "snake_case")]
        #[repr(u8)]
        pub enum $name { $($(#[$vmeta])* $variant,)+ }

        impl $name {
            /// Every member, in the order of the list.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The word used in JSON, logs and metric labels.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// Place in [`Self::ALL`].
            #[must_use]
            pub const fn index(self) -> usize {
                self as usize
            }
        }
    };
}
pub(crate) use closed_list;

closed_list! {
    /// Why a stream's session ended, or why it never began.
    Cause {
        /// The last viewer left and nobody returned within the linger.
        ViewersLeft = "viewers_left",
        /// The server is shutting down.
        ShuttingDown = "shutting_down",
        /// Somebody asked for its end.
        Stopped = "stopped",
        /// Another stream of the same infohash took the viewers over.
        Merged = "merged",
        /// No engine is usable.
        NoEngine = "no_engine",
        /// Every usable engine plays as many streams as it may.
        EnginesFull = "engines_full",
        /// The server's own limit of streams or viewers is reached.
        AtCapacity = "at_capacity",
        /// The engine refused the connection or did not accept it in time.
        EngineUnreachable = "engine_unreachable",
        /// The engine accepted the connection and did not answer in time.
        EngineSilent = "engine_silent",
        /// The engine answered with an error of its own, or with nonsense.
        EngineError = "engine_error",
        /// The engine cannot find the content.
        ContentUnavailable = "content_unavailable",
        /// The content needs an option or account that the engine lacks.
        ContentRestricted = "content_restricted",
        /// The engine knew the content but could not start playing it.
        StartFailed = "start_failed",
        /// No playable byte came within the start budget.
        StartTimeout = "start_timeout",
        /// A running stream fell silent for too long.
        Stalled = "stalled",
        /// The engine closed a running stream.
        EngineClosed = "engine_closed",
        /// The connection of a running stream broke.
        EngineReset = "engine_reset",
        /// What the engine sent is not an MPEG transport stream.
        NotTransportStream = "not_transport_stream",
        /// Nobody in the swarm could be found within the start budget.
        NoPeers = "no_peers",
        /// The swarm has peers, and none of them gave anything within the start
        /// budget.
        PeersWithoutData = "peers_without_data",
        /// A content that is not live has come to its end.
        ContentEnded = "content_ended",
        /// The engine has forgotten the session.
        SessionLost = "session_lost",
        /// The content failed too often of late to be tried again yet.
        ContentBlocked = "content_blocked",
    }
}

impl Cause {
    /// Whether the content is at fault as far as one engine can tell: another
    /// one is asked to make sure, and no more than that.
    #[must_use]
    pub const fn is_content(self) -> bool {
        matches!(self, Self::ContentUnavailable | Self::NoPeers | Self::PeersWithoutData)
    }

    /// Whether it counts against the content when starts of it are judged:
    /// what any engine would have met.
    #[must_use]
    pub const fn blames_content(self) -> bool {
        self.is_content()
            || matches!(self, Self::ContentRestricted | Self::StartFailed | Self::NotTransportStream)
    }

    /// Whether another engine may do better with a start that failed so.
    #[must_use]
    pub const fn is_engine(self) -> bool {
        matches!(
            self,
            Self::EngineUnreachable
                | Self::EngineSilent
                | Self::EngineError
                | Self::StartFailed
                | Self::NotTransportStream
                | Self::EngineClosed
                | Self::EngineReset
                | Self::SessionLost
        )
    }
}

closed_list! {
    /// Why one viewer's connection ended.
    ViewerEnd {
        /// The viewer closed the connection.
        Left = "left",
        /// Nothing could be sent to the viewer for the stall limit.
        Stalled = "stalled",
        /// The viewer fell out of the window too many times.
        Lapped = "lapped",
        /// The stream ended under the viewer.
        StreamEnded = "stream_ended",
        /// The viewer was refused before a byte of the stream was sent.
        Refused = "refused",
        /// The server is shutting down.
        ShuttingDown = "shutting_down",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_unique_and_indices_are_places() {
        for (i, c) in Cause::ALL.iter().enumerate() {
            assert_eq!(c.index(), i);
            assert_eq!(Cause::ALL.iter().filter(|o| o.as_str() == c.as_str()).count(), 1);
        }
        for (i, e) in ViewerEnd::ALL.iter().enumerate() {
            assert_eq!(e.index(), i);
        }
    }
}
