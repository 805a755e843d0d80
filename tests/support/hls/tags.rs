//! Every tag there is: where it may stand, how often, and what it carries.
//! Source: RFC 8216 §4.3, bis §4.4.

/// What a tag is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// Any playlist.
    Any,
    /// A media playlist.
    Media,
    /// The next media segment, or all that follow.
    Segment,
    /// A multivariant playlist.
    Multivariant,
}

/// How often a tag may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Times {
    /// Once in a playlist.
    Once,
    /// Once for a segment.
    OnceASegment,
    /// As often as one likes.
    Many,
}

/// What stands behind the name of a tag.
#[derive(Clone, Copy, Debug)]
pub(super) enum Carries {
    /// Nothing.
    Nothing,
    /// decimal-integer.
    Integer,
    /// Something of its own.
    Other,
    /// An attribute list.
    Attributes(&'static [Attribute]),
}

/// Type of an attribute's value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Integer,
    Float,
    Signed,
    Hexadecimal,
    Resolution,
    Quoted,
    /// quoted-string with a URI in it.
    Uri,
    /// enumerated-string, one of these; any when empty.
    Enumerated(&'static [&'static str]),
    /// quoted-string or the enumerated-string NONE.
    QuotedOrNone,
}

/// An attribute of a tag.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attribute {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) is_required: bool,
}

/// A tag.
#[derive(Debug)]
pub(super) struct Tag {
    /// Without the number sign.
    pub(super) name: &'static str,
    pub(super) scope: Scope,
    pub(super) times: Times,
    pub(super) carries: Carries,
}

impl Tag {
    /// The tag of that name.
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        TAGS.iter().find(|tag| tag.name == name)
    }
}

const fn must(name: &'static str, kind: Kind) -> Attribute {
    Attribute { name, kind, is_required: true }
}

const fn may(name: &'static str, kind: Kind) -> Attribute {
    Attribute { name, kind, is_required: false }
}

const fn tag(name: &'static str, scope: Scope, times: Times, carries: Carries) -> Tag {
    Tag { name, scope, times, carries }
}

const YES: Kind = Kind::Enumerated(&["YES"]);
const YES_NO: Kind = Kind::Enumerated(&["YES", "NO"]);

use Carries::{Attributes, Nothing, Other};
use Kind::{Enumerated, Float, Hexadecimal, Quoted, QuotedOrNone, Resolution, Signed, Uri};
use Scope::{Any, Media, Multivariant, Segment};
use Times::{Many, Once, OnceASegment};

const KEY: &[Attribute] = &[
    must("METHOD", Enumerated(&["NONE", "AES-128", "SAMPLE-AES", "SAMPLE-AES-CTR", "AES-256-GCM"])),
    may("URI", Uri),
    may("IV", Hexadecimal),
    may("KEYFORMAT", Quoted),
    may("KEYFORMATVERSIONS", Quoted),
];

const TAGS: &[Tag] = &[
    tag("EXTM3U", Any, Once, Nothing),
    tag("EXT-X-VERSION", Any, Once, Carries::Integer),
    tag("EXT-X-INDEPENDENT-SEGMENTS", Any, Once, Nothing),
    tag("EXT-X-START", Any, Once, Attributes(&[must("TIME-OFFSET", Signed), may("PRECISE", YES_NO)])),
    tag(
        "EXT-X-DEFINE",
        Any,
        Many,
        Attributes(&[
            may("NAME", Quoted),
            may("VALUE", Quoted),
            may("IMPORT", Quoted),
            may("QUERYPARAM", Quoted),
        ]),
    ),
    tag("EXT-X-TARGETDURATION", Media, Once, Carries::Integer),
    tag("EXT-X-MEDIA-SEQUENCE", Media, Once, Carries::Integer),
    tag("EXT-X-DISCONTINUITY-SEQUENCE", Media, Once, Carries::Integer),
    tag("EXT-X-ENDLIST", Media, Once, Nothing),
    tag("EXT-X-PLAYLIST-TYPE", Media, Once, Other),
    tag("EXT-X-I-FRAMES-ONLY", Media, Once, Nothing),
    tag("EXT-X-PART-INF", Media, Once, Attributes(&[must("PART-TARGET", Float)])),
    tag(
        "EXT-X-SERVER-CONTROL",
        Media,
        Once,
        Attributes(&[
            may("CAN-SKIP-UNTIL", Float),
            may("CAN-SKIP-DATERANGES", YES),
            may("HOLD-BACK", Float),
            may("PART-HOLD-BACK", Float),
            may("CAN-BLOCK-RELOAD", YES),
        ]),
    ),
    tag("EXTINF", Segment, OnceASegment, Other),
    tag("EXT-X-BYTERANGE", Segment, OnceASegment, Other),
    tag("EXT-X-DISCONTINUITY", Segment, OnceASegment, Nothing),
    tag("EXT-X-KEY", Segment, Many, Attributes(KEY)),
    tag("EXT-X-MAP", Segment, OnceASegment, Attributes(&[must("URI", Uri), may("BYTERANGE", Quoted)])),
    tag("EXT-X-PROGRAM-DATE-TIME", Segment, OnceASegment, Other),
    tag("EXT-X-GAP", Segment, OnceASegment, Nothing),
    tag("EXT-X-BITRATE", Segment, OnceASegment, Carries::Integer),
    tag(
        "EXT-X-PART",
        Segment,
        Many,
        Attributes(&[
            must("URI", Uri),
            must("DURATION", Float),
            may("INDEPENDENT", YES),
            may("BYTERANGE", Quoted),
            may("GAP", YES),
        ]),
    ),
    tag(
        "EXT-X-DATERANGE",
        Media,
        Many,
        Attributes(&[
            must("ID", Quoted),
            may("CLASS", Quoted),
            may("START-DATE", Quoted),
            may("CUE", Quoted),
            may("END-DATE", Quoted),
            may("DURATION", Float),
            may("PLANNED-DURATION", Float),
            may("SCTE35-CMD", Hexadecimal),
            may("SCTE35-OUT", Hexadecimal),
            may("SCTE35-IN", Hexadecimal),
            may("END-ON-NEXT", YES),
        ]),
    ),
    tag(
        "EXT-X-SKIP",
        Media,
        Once,
        Attributes(&[must("SKIPPED-SEGMENTS", Kind::Integer), may("RECENTLY-REMOVED-DATERANGES", Quoted)]),
    ),
    tag(
        "EXT-X-PRELOAD-HINT",
        Media,
        Many,
        Attributes(&[
            must("TYPE", Enumerated(&["PART", "MAP"])),
            must("URI", Uri),
            may("BYTERANGE-START", Kind::Integer),
            may("BYTERANGE-LENGTH", Kind::Integer),
        ]),
    ),
    tag(
        "EXT-X-RENDITION-REPORT",
        Media,
        Many,
        Attributes(&[must("URI", Uri), may("LAST-MSN", Kind::Integer), may("LAST-PART", Kind::Integer)]),
    ),
    tag(
        "EXT-X-MEDIA",
        Multivariant,
        Many,
        Attributes(&[
            must("TYPE", Enumerated(&["AUDIO", "VIDEO", "SUBTITLES", "CLOSED-CAPTIONS"])),
            may("URI", Uri),
            must("GROUP-ID", Quoted),
            may("LANGUAGE", Quoted),
            may("ASSOC-LANGUAGE", Quoted),
            must("NAME", Quoted),
            may("STABLE-RENDITION-ID", Quoted),
            may("DEFAULT", YES_NO),
            may("AUTOSELECT", YES_NO),
            may("FORCED", YES_NO),
            may("INSTREAM-ID", Quoted),
            may("BIT-DEPTH", Kind::Integer),
            may("SAMPLE-RATE", Kind::Integer),
            may("CHARACTERISTICS", Quoted),
            may("CHANNELS", Quoted),
        ]),
    ),
    tag(
        "EXT-X-STREAM-INF",
        Multivariant,
        Many,
        Attributes(&[
            must("BANDWIDTH", Kind::Integer),
            may("AVERAGE-BANDWIDTH", Kind::Integer),
            may("SCORE", Float),
            may("CODECS", Quoted),
            may("SUPPLEMENTAL-CODECS", Quoted),
            may("RESOLUTION", Resolution),
            may("FRAME-RATE", Float),
            may("HDCP-LEVEL", Enumerated(&["TYPE-0", "TYPE-1", "NONE"])),
            may("ALLOWED-CPC", Quoted),
            may("VIDEO-RANGE", Enumerated(&["SDR", "HLG", "PQ"])),
            may("REQ-VIDEO-LAYOUT", Quoted),
            may("STABLE-VARIANT-ID", Quoted),
            may("AUDIO", Quoted),
            may("VIDEO", Quoted),
            may("SUBTITLES", Quoted),
            may("CLOSED-CAPTIONS", QuotedOrNone),
            may("PATHWAY-ID", Quoted),
        ]),
    ),
    tag(
        "EXT-X-I-FRAME-STREAM-INF",
        Multivariant,
        Many,
        Attributes(&[
            must("BANDWIDTH", Kind::Integer),
            must("URI", Uri),
            may("AVERAGE-BANDWIDTH", Kind::Integer),
            may("CODECS", Quoted),
            may("RESOLUTION", Resolution),
            may("HDCP-LEVEL", Enumerated(&["TYPE-0", "TYPE-1", "NONE"])),
            may("VIDEO-RANGE", Enumerated(&["SDR", "HLG", "PQ"])),
            may("VIDEO", Quoted),
        ]),
    ),
    tag(
        "EXT-X-SESSION-DATA",
        Multivariant,
        Many,
        Attributes(&[
            must("DATA-ID", Quoted),
            may("VALUE", Quoted),
            may("URI", Uri),
            may("FORMAT", Enumerated(&["JSON", "RAW"])),
            may("LANGUAGE", Quoted),
        ]),
    ),
    tag("EXT-X-SESSION-KEY", Multivariant, Many, Attributes(KEY)),
    tag(
        "EXT-X-CONTENT-STEERING",
        Multivariant,
        Once,
        Attributes(&[must("SERVER-URI", Uri), may("PATHWAY-ID", Quoted)]),
    ),
];
