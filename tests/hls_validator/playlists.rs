//! Single playlists.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    assert_only, changed,
    support::{
        hls::{
            Complaint,
            playlist::{Playlist, parse, parse_media},
            rules::{Expect, check},
        },
        mutate::{Random, mutated},
    },
};

/// A live playlist without a fault.
const LIVE: &str = "\
#EXTM3U
#EXT-X-VERSION:6
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-TARGETDURATION:4
#EXT-X-MEDIA-SEQUENCE:7
#EXT-X-DISCONTINUITY-SEQUENCE:2
#EXT-X-SERVER-CONTROL:CAN-SKIP-UNTIL=24.0,HOLD-BACK=12.0
# nobody's business
#EXT-X-PROGRAM-DATE-TIME:2026-01-02T03:04:05.000Z
#EXTINF:4.000,a title
7.ts
#EXTINF:4.400,
8.ts?session=1

#EXTINF:3.600,
9.ts
#EXT-X-DISCONTINUITY
#EXT-X-PROGRAM-DATE-TIME:2026-01-02T05:00:00.000+01:00
#EXTINF:4.000,
10.ts
#EXT-X-PROGRAM-DATE-TIME:2026-01-02T04:00:04.200Z
#EXTINF:4.000,
11.ts
#EXTINF:4.000,
12.ts
";

/// A low-latency one.
pub(crate) const PARTS: &str = "\
#EXTM3U
#EXT-X-VERSION:9
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-TARGETDURATION:2
#EXT-X-PART-INF:PART-TARGET=1.0
#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=3.0,CAN-SKIP-UNTIL=12.0
#EXT-X-MEDIA-SEQUENCE:20
#EXT-X-PROGRAM-DATE-TIME:2026-01-02T03:04:05.000Z
#EXTINF:2.000,
20.ts
#EXTINF:2.000,
21.ts
#EXTINF:2.000,
22.ts
#EXT-X-PART:DURATION=1.0,URI=\"23.0.ts\",INDEPENDENT=YES
#EXT-X-PART:DURATION=0.9,URI=\"23.1.ts\"
#EXTINF:1.900,
23.ts
#EXT-X-PART:DURATION=0.9,URI=\"24.0.ts\",INDEPENDENT=YES
#EXT-X-PART:DURATION=1.0,URI=\"24.1.ts\"
#EXT-X-PART:DURATION=0.2,URI=\"24.2.ts\"
#EXTINF:2.100,
24.ts
#EXT-X-PROGRAM-DATE-TIME:2026-01-02T03:04:15.000Z
#EXT-X-PART:DURATION=1.0,URI=\"25.0.ts\",INDEPENDENT=YES
#EXT-X-PART:DURATION=1.0,URI=\"25.1.ts\"
#EXTINF:2.000,
25.ts
#EXT-X-PART:DURATION=1.0,URI=\"26.0.ts\",INDEPENDENT=YES
#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"26.1.ts\"
#EXT-X-RENDITION-REPORT:URI=\"other.m3u8\",LAST-MSN=26,LAST-PART=0
";

const MULTIVARIANT: &str = "\
#EXTM3U
#EXT-X-VERSION:6
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"sound\",NAME=\"Sound\",DEFAULT=YES,AUTOSELECT=YES,URI=\"sound.m3u8\"
#EXT-X-STREAM-INF:BANDWIDTH=5000000,AVERAGE-BANDWIDTH=4000000,CODECS=\"avc1.64001f,mp4a.40.2\",RESOLUTION=1280x720,FRAME-RATE=25.000,AUDIO=\"sound\"
video.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=64000,CODECS=\"ac-3\"
sound.m3u8
";

const OLD: Duration = Duration::from_secs(3600);

fn complaints(text: &[u8], low_latency: bool) -> Vec<Complaint> {
    let (media, mut complaints) = parse_media(text);
    complaints.extend(check(&media, &Expect { live: true, low_latency, age: OLD }));
    complaints
}

fn assert_each(good: &str, low_latency: bool, table: &[(&str, &str, &str, &str)]) {
    assert_only("good", &complaints(good.as_bytes(), low_latency), "");
    for (name, from, to, rule) in table {
        let text = changed(name, good, from, to);
        assert_only(name, &complaints(text.as_bytes(), low_latency), rule);
    }
}

#[test]
fn a_media_playlist_is_read_as_it_was_meant() {
    let (media, complaints) = parse_media(LIVE.as_bytes());
    assert_only("good", &complaints, "");
    assert_eq!((media.version, media.target_duration), (Some(6), Duration::from_secs(4)));
    assert_eq!((media.first(), media.end(), media.discontinuity_sequence), (7, 13, Some(2)));
    assert_eq!(media.duration(), Duration::from_secs(24));
    let uris: Vec<_> = media.segments.iter().map(|s| s.uri.as_str()).collect();
    assert_eq!(uris, ["7.ts", "8.ts?session=1", "9.ts", "10.ts", "11.ts", "12.ts"]);
    let eighth = media.segment(8).unwrap();
    assert_eq!((eighth.line, eighth.duration), (13, Duration::from_millis(4400)));
    let times: Vec<_> = media.segments.iter().filter_map(|s| s.date_time).map(|t| t.as_millis()).collect();
    // 2026-01-02T03:04:05Z, 04:00:00Z and 4.2 s after that.
    assert_eq!(times, [1_767_323_045_000, 1_767_326_400_000, 1_767_326_404_200]);
    let breaks: Vec<_> =
        media.numbered().filter(|(_, s)| s.discontinuity).map(|(number, _)| number).collect();
    assert_eq!(breaks, [10]);

    let (media, _) = parse_media(PARTS.as_bytes());
    assert_eq!(media.part_target, Some(Duration::from_secs(1)));
    assert_eq!(media.parts(24).len(), 3);
    assert_eq!((media.parts(26).len(), media.parts(26)[0].uri.as_str()), (1, "26.0.ts"));
    assert_eq!(media.hints[0].uri, "26.1.ts");
}

#[test]
fn what_is_odd_and_allowed_is_no_fault() {
    for (name, text) in [
        ("CRLF", LIVE.replace('\n', "\r\n")),
        ("ages without seconds' fractions", LIVE.replace("4.000,", "4,")),
        ("tags in another order", changed("", LIVE, "#EXT-X-VERSION:6\n", "") + "#EXT-X-VERSION:6\n"),
        ("a gap", changed("", LIVE, "#EXTINF:3.600,", "#EXT-X-GAP\n#EXTINF:3.600,")),
        ("a bit rate", changed("", LIVE, "#EXTINF:3.600,", "#EXT-X-BITRATE:900\n#EXTINF:3.600,")),
        ("a start", changed("", LIVE, "#EXT-X-TARGET", "#EXT-X-START:TIME-OFFSET=-8.5\n#EXT-X-TARGET")),
        (
            "a range of dates",
            LIVE.to_owned() + "#EXT-X-DATERANGE:ID=\"a\",START-DATE=\"2026-01-02T03:04:05Z\",X-COM-B=0xAB\n",
        ),
        (
            "a key",
            changed(
                "",
                LIVE,
                "#EXTINF:3.600,",
                "#EXT-X-KEY:METHOD=AES-128,URI=\"k,=\",IV=0xA0\n#EXTINF:3.600,",
            ),
        ),
    ] {
        assert_only(name, &complaints(text.as_bytes(), false), "");
    }
}

#[test]
fn every_fault_of_syntax_is_found() {
    let table = [
        ("a byte order mark", "#EXTM3U", "\u{feff}#EXTM3U", "encoding"),
        ("a control character", "a title", "a\u{7f}title", "encoding"),
        ("a tab", "# nobody's", "#\tnobody's", "encoding"),
        ("no line end at the end", "12.ts\n", "12.ts", "line-end"),
        ("a carriage return", "# nobody's", "# nobody\rs", "line-end"),
        ("an empty first line", "#EXTM3U", "\n#EXTM3U", "header"),
        ("no first line", "#EXTM3U\n", "", "header"),
        ("a space behind a tag", "#EXT-X-INDEPENDENT-SEGMENTS", "#EXT-X-INDEPENDENT-SEGMENTS ", "whitespace"),
        ("a space before a URI", "\n7.ts", "\n 7.ts", "whitespace"),
        ("a space in a URI", "8.ts?session=1", "8 8.ts", "uri"),
        ("a quote in a URI", "8.ts?session=1", "\"8.ts", "uri"),
        ("an unknown tag", "# nobody's", "#EXT-X-NOBODY:A=1", "unknown-tag"),
        (
            "a tag in small letters",
            "#EXT-X-INDEPENDENT-SEGMENTS",
            "#EXT-X-INDEPENDENT-SEGMENTS\n#EXT-x-gap",
            "unknown-tag",
        ),
        ("a value where there is none", "#EXT-X-DISCONTINUITY\n", "#EXT-X-DISCONTINUITY:1\n", "tag-value"),
        ("a negative number", "SEQUENCE:2", "SEQUENCE:-2", "tag-value"),
        ("twenty-one digits", "SEQUENCE:2", "SEQUENCE:000000000000000000002", "tag-value"),
        ("EXTINF without a comma", "#EXTINF:3.600,", "#EXTINF:3.600", "tag-value"),
        ("EXTINF in exponents", "#EXTINF:3.600,", "#EXTINF:3.6e0,", "tag-value"),
        ("EXTINF with a sign", "#EXTINF:3.600,", "#EXTINF:+3.600,", "tag-value"),
        (
            "a thirteenth month",
            "#EXT-X-PROGRAM-DATE-TIME:2026-01-02T04",
            "#EXT-X-PROGRAM-DATE-TIME:2026-13-02T04",
            "tag-value",
        ),
        ("a time without a zone", "04:00:04.200Z", "04:00:04.200", "tag-value"),
        ("an odd zone", "05:00:00.000+01:00", "05:00:00.000+0100", "date-time-form"),
        ("no milliseconds", "03:04:05.000Z", "03:04:05Z", "date-time-form"),
        ("an odd byte range", "#EXTINF:3.600,", "#EXT-X-BYTERANGE:1@\n#EXTINF:3.600,", "tag-value"),
        ("a comma at the end", "HOLD-BACK=12.0", "HOLD-BACK=12.0,", "attribute-syntax"),
        ("a space between attributes", ",HOLD-BACK", ", HOLD-BACK", "attribute-syntax"),
        ("an attribute without a value", "HOLD-BACK=12.0", "HOLD-BACK=", "attribute-syntax"),
        ("no attributes", ":CAN-SKIP-UNTIL=24.0,HOLD-BACK=12.0", "", "attribute-syntax"),
        ("an unknown attribute", "HOLD-BACK=12.0", "HOLD-BACKS=12.0", "attribute-unknown"),
        ("an attribute twice", "HOLD-BACK=12.0", "HOLD-BACK=12.0,HOLD-BACK=12.0", "attribute-twice"),
        ("a quoted number", "HOLD-BACK=12.0", "HOLD-BACK=\"12.0\"", "attribute-type"),
        ("a number that is none", "HOLD-BACK=12.0", "HOLD-BACK=12.0s", "attribute-type"),
        ("NO where only YES is", "HOLD-BACK=12.0", "CAN-BLOCK-RELOAD=NO", "attribute-type"),
        (
            "small hexadecimals",
            "# nobody's",
            "#EXT-X-KEY:METHOD=AES-128,URI=\"k\",IV=0xab\n#",
            "attribute-type",
        ),
        ("a needed attribute is missing", "# nobody's", "#EXT-X-START:PRECISE=YES\n#", "attribute-missing"),
        ("a tag twice", "#EXT-X-VERSION:6", "#EXT-X-VERSION:6\n#EXT-X-VERSION:6", "tag-twice"),
        ("two EXTINF for one segment", "#EXTINF:3.600,", "#EXTINF:3.600,\n#EXTINF:3.600,", "tag-twice"),
        (
            "two discontinuities for one segment",
            "#EXT-X-DISCONTINUITY\n",
            "#EXT-X-DISCONTINUITY\n#EXT-X-DISCONTINUITY\n",
            "tag-twice",
        ),
        ("a segment without EXTINF", "#EXTINF:3.600,\n", "", "tag-missing"),
        ("EXTINF without a segment", "12.ts\n", "12.ts\n#EXTINF:1.0,\n", "tag-missing"),
        ("a tag of both kinds", "# nobody's", "#EXT-X-SESSION-DATA:DATA-ID=\"a\",VALUE=\"b\"\n#", "mixed"),
        ("a discontinuity before nothing", "12.ts\n", "12.ts\n#EXT-X-DISCONTINUITY\n", "tag-order"),
    ];
    for (name, from, to, rule) in table {
        assert_only(name, &complaints(changed(name, LIVE, from, to).as_bytes(), false), rule);
    }
    let typed = changed("", LIVE, "# nobody's", "#EXT-X-PLAYLIST-TYPE:LIVE\n#");
    assert_only("an odd type", &parse_media(typed.as_bytes()).1, "tag-value");
    let moved = changed("", LIVE, "#EXT-X-MEDIA-SEQUENCE:7\n", "") + "#EXT-X-MEDIA-SEQUENCE:7\n";
    assert_only("MEDIA-SEQUENCE at the end", &complaints(moved.as_bytes(), false), "tag-order");
    let moved = changed("", LIVE, "#EXT-X-DISCONTINUITY-SEQUENCE:2\n", "");
    let moved = changed("", &moved, "10.ts\n", "10.ts\n#EXT-X-DISCONTINUITY-SEQUENCE:2\n");
    assert_only("DISCONTINUITY-SEQUENCE behind one", &complaints(moved.as_bytes(), false), "tag-order");
    let wrong = [LIVE.as_bytes(), b"# \xff\n"].concat();
    assert_only("no UTF-8", &complaints(&wrong, false), "encoding");
    assert_eq!(complaints(&wrong, false)[0].line, LIVE.lines().count() + 1);
    let no_target = changed("", LIVE, "#EXT-X-TARGETDURATION:4\n", "");
    let (_, found) = parse_media(no_target.as_bytes());
    assert_only("no target duration", &found, "tag-missing");
}

#[test]
fn every_fault_of_a_live_playlist_is_found() {
    assert_each(
        LIVE,
        false,
        &[
            ("durations of version 3 in version 2", "VERSION:6", "VERSION:2", "version"),
            ("no version", "#EXT-X-VERSION:6\n", "", "version"),
            ("a version to come", "VERSION:6", "VERSION:99", "version"),
            ("a segment half a second longer", "#EXTINF:4.400,", "#EXTINF:4.500,", "target-duration"),
            ("no media sequence", "#EXT-X-MEDIA-SEQUENCE:7\n", "", "media-sequence"),
            ("no discontinuity sequence", "#EXT-X-DISCONTINUITY-SEQUENCE:2\n", "", "discontinuity-sequence"),
            ("an end", "# nobody's", "#EXT-X-ENDLIST\n#", "end-list"),
            ("an event", "# nobody's", "#EXT-X-PLAYLIST-TYPE:EVENT\n#", "playlist-type"),
            ("segments not independent", "#EXT-X-INDEPENDENT-SEGMENTS\n", "", "independent-segments"),
            ("no time", "#EXT-X-PROGRAM-DATE-TIME:2026-01-02T03:04:05.000Z\n", "", "date-time"),
            (
                "no time behind a discontinuity",
                "#EXT-X-PROGRAM-DATE-TIME:2026-01-02T05:00:00.000+01:00\n",
                "",
                "date-time",
            ),
            ("times that run away", "04:00:04.200Z", "04:00:04.501Z", "date-time-drift"),
            ("times that lag", "04:00:04.200Z", "04:00:03.499Z", "date-time-drift"),
            ("five segments", "#EXTINF:3.600,\n9.ts\n", "", "window"),
            ("a segment of no kind", "8.ts?session=1", "8?session=1.ts", "segment-name"),
            ("a segment twice", "8.ts?session=1", "9.ts", "segment-twice"),
            ("a short way back", "HOLD-BACK=12.0", "HOLD-BACK=11.9", "hold-back"),
            ("an early skip", "UNTIL=24.0", "UNTIL=23.9", "skip-boundary"),
            ("date ranges alone", "CAN-SKIP-UNTIL=24.0", "CAN-SKIP-DATERANGES=YES", "skip-boundary"),
        ],
    );
    let initialised = changed("", LIVE, "# nobody's", "#EXT-X-MAP:URI=\"i.ts\"\n#");
    assert_only("an initialisation", &complaints(initialised.as_bytes(), false), "");
    let in_five = changed("", &initialised, "VERSION:6", "VERSION:5");
    assert_only("an initialisation in version 5", &complaints(in_five.as_bytes(), false), "version");
    let young = Expect { live: true, low_latency: false, age: Duration::from_secs(31) };
    let (five, _) = parse_media(changed("", LIVE, "#EXTINF:3.600,\n9.ts\n", "").as_bytes());
    assert_only("five segments of a young stream", &check(&five, &young), "");
    let over = Expect { live: false, ..young };
    let ended =
        changed("", LIVE, "#EXT-X-MEDIA-SEQUENCE:7\n", "#EXT-X-PLAYLIST-TYPE:VOD\n") + "#EXT-X-ENDLIST\n";
    assert_only("a stream that is over", &check(&parse_media(ended.as_bytes()).0, &over), "");
}

#[test]
fn every_fault_of_parts_is_found() {
    let old = "#EXT-X-PART:DURATION=2.0,URI=\"20.0.ts\",INDEPENDENT=YES\n";
    let too_old = "#EXTINF:2.000,\n21.ts\n";
    let with_old = format!("{}{too_old}", old.replace("20.0", "21.0").replace("2.0,", "1.0,").repeat(2));
    assert_each(
        PARTS,
        true,
        &[
            ("parts without a target", "#EXT-X-PART-INF:PART-TARGET=1.0\n", "", "part-target"),
            ("a target of nothing", "PART-TARGET=1.0", "PART-TARGET=0.0", "part-target"),
            ("no reload is held", "CAN-BLOCK-RELOAD=YES,", "", "block-reload"),
            ("nothing is skipped", ",CAN-SKIP-UNTIL=12.0", "", "skip-boundary"),
            ("no way back", "PART-HOLD-BACK=3.0,", "", "part-hold-back"),
            ("a short way back", "PART-HOLD-BACK=3.0", "PART-HOLD-BACK=2.9", "part-hold-back"),
            ("a long part", "DURATION=1.0,URI=\"26.0", "DURATION=1.1,URI=\"26.0", "part-duration"),
            (
                "a short part",
                "1.0,URI=\"24.1.ts\"\n#EXT-X-PART:DURATION=0.2,",
                "0.8,URI=\"24.1.ts\"\n#EXT-X-PART:DURATION=0.4,",
                "part-duration",
            ),
            ("parts longer than their segment", "#EXTINF:2.100,", "#EXTINF:2.000,", "part-sum"),
            (
                "a first part that is not independent",
                "24.0.ts\",INDEPENDENT=YES",
                "24.0.ts\"",
                "part-independent",
            ),
            ("parts long ago", too_old, &with_old, "part-age"),
            (
                "no parts for the last segment",
                "#EXT-X-PART:DURATION=1.0,URI=\"25.0.ts\",INDEPENDENT=YES\n#EXT-X-PART:DURATION=1.0,URI=\"25.1.ts\"\n",
                "",
                "part-missing",
            ),
            ("no hint", "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"26.1.ts\"\n", "", "preload-hint"),
            (
                "two hints",
                "#EXT-X-REND",
                "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"26.2.ts\"\n#EXT-X-REND",
                "preload-hint",
            ),
            ("a hint at what is there", "URI=\"26.1.ts\"", "URI=\"26.0.ts\"", "preload-hint"),
            ("a hint at nothing", ",URI=\"26.1.ts\"", "", "attribute-missing"),
            (
                "a part without duration",
                "DURATION=1.0,URI=\"26.0.ts\"",
                "URI=\"26.0.ts\"",
                "attribute-missing",
            ),
            ("a report of nothing", "LAST-MSN=26", "LAST-MSN=\"26\"", "attribute-type"),
            ("a part of no kind", "\"25.1.ts\"", "\"25.1\"", "segment-name"),
            (
                "the time behind a part",
                "#EXT-X-PROGRAM-DATE-TIME:2026-01-02T03:04:15.000Z\n#EXT-X-PART:DURATION=1.0,URI=\"25.0.ts\",INDEPENDENT=YES\n",
                "#EXT-X-PART:DURATION=1.0,URI=\"25.0.ts\",INDEPENDENT=YES\n#EXT-X-PROGRAM-DATE-TIME:2026-01-02T03:04:15.000Z\n",
                "tag-order",
            ),
            (
                "a part behind EXTINF",
                "#EXT-X-PART:DURATION=0.2,URI=\"24.2.ts\"\n#EXTINF:2.100,\n",
                "#EXTINF:2.100,\n#EXT-X-PART:DURATION=0.2,URI=\"24.2.ts\"\n",
                "tag-order",
            ),
        ],
    );
    assert_only("no parts at all", &complaints(LIVE.as_bytes(), true), "part-target");
    let live = Expect { live: false, low_latency: true, age: OLD };
    let (ended, _) = parse_media((PARTS.to_owned() + "#EXT-X-ENDLIST\n").as_bytes());
    assert_only("a hint beside the end", &check(&ended, &live), "preload-hint");
}

#[test]
fn every_fault_of_a_delta_update_is_found() {
    let time = "#EXT-X-PROGRAM-DATE-TIME:2026-01-02T03:04:05.000Z\n";
    let good = changed("", PARTS, time, "#EXT-X-SKIP:SKIPPED-SEGMENTS=1\n");
    let twice = "#EXT-X-SKIP:SKIPPED-SEGMENTS=1\n#EXT-X-SKIP:SKIPPED-SEGMENTS=1\n";
    assert_each(
        &good,
        true,
        &[
            ("of version 8", "VERSION:9", "VERSION:8", "version"),
            ("with date ranges", "SEGMENTS=1", "SEGMENTS=1,RECENTLY-REMOVED-DATERANGES=\"a\tb\"", "version"),
            ("of nothing", "SEGMENTS=1", "SEGMENTS=0", "skip"),
            ("of too much", "#EXTINF:2.000,\n21.ts\n", "", "skip"),
            ("twice", "#EXT-X-SKIP:SKIPPED-SEGMENTS=1\n", twice, "tag-twice"),
            (
                "behind a segment",
                "#EXT-X-SKIP:SKIPPED-SEGMENTS=1\n#EXTINF:2.000,\n20.ts\n",
                "#EXTINF:2.000,\n20.ts\n#EXT-X-SKIP:SKIPPED-SEGMENTS=1\n",
                "tag-order",
            ),
        ],
    );
    let (unannounced, _) = parse_media(changed("", &good, ",CAN-SKIP-UNTIL=12.0", "").as_bytes());
    let found = check(&unannounced, &Expect { live: true, low_latency: true, age: OLD });
    assert!(found.iter().any(|c| c.rule == "skip"), "{found:?}");
    let control = "#EXT-X-SERVER-CONTROL:CAN-SKIP-UNTIL=24.0,HOLD-BACK=12.0\n";
    let uncontrolled = changed("", LIVE, control, "#EXT-X-SKIP:SKIPPED-SEGMENTS=1\n");
    let uncontrolled = changed("", &uncontrolled, "VERSION:6", "VERSION:9");
    assert_only("without SERVER-CONTROL", &complaints(uncontrolled.as_bytes(), false), "skip");
}

#[test]
fn every_fault_of_a_multivariant_playlist_is_found() {
    let peaks = BTreeMap::from([("video.m3u8".to_owned(), 4_800_000)]);
    let complaints = |text: &str| {
        let (Playlist::Multivariant(multivariant), mut complaints) = parse(text.as_bytes()) else {
            panic!("no multivariant playlist: {text}");
        };
        complaints.extend(multivariant.check(&peaks));
        complaints
    };
    assert_only("good", &complaints(MULTIVARIANT), "");
    for (name, from, to, rule) in [
        ("no bandwidth", "BANDWIDTH=64000,", "", "attribute-missing"),
        ("a bandwidth of nothing", "BANDWIDTH=64000", "BANDWIDTH=0", "bandwidth"),
        ("less than there is", "BANDWIDTH=5000000", "BANDWIDTH=4799999", "bandwidth"),
        ("less than on average", "AVERAGE-BANDWIDTH=4000000", "AVERAGE-BANDWIDTH=5000001", "bandwidth"),
        ("no codecs", ",CODECS=\"ac-3\"", "", "codecs"),
        ("a short codec", "avc1.64001f", "avc1.64001", "codecs"),
        ("an empty codec", "avc1.64001f,", "avc1.64001f,,", "codecs"),
        ("no size", "RESOLUTION=1280x720,", "", "resolution"),
        ("an empty size", "1280x720", "0x720", "resolution"),
        ("a size that is none", "1280x720", "1280X720", "attribute-type"),
        ("a rate of four decimals", "25.000", "25.0001", "frame-rate"),
        ("a rate that is none", "FRAME-RATE=25.000", "FRAME-RATE=25fps", "attribute-type"),
        ("a group that is not there", "AUDIO=\"sound\"\n", "AUDIO=\"noise\"\n", "group"),
        ("a variant without URI", "\nvideo.m3u8", "", "tag-missing"),
        ("a URI without variant", "#EXT-X-STREAM-INF:BANDWIDTH=64000,CODECS=\"ac-3\"\n", "", "tag-missing"),
        ("an odd type", "TYPE=AUDIO", "TYPE=SOUND", "attribute-type"),
        ("a version to come", "VERSION:6", "VERSION:99", "version"),
        ("a version twice", "#EXT-X-VERSION:6", "#EXT-X-VERSION:6\n#EXT-X-VERSION:6", "tag-twice"),
    ] {
        let mut found = complaints(&changed(name, MULTIVARIANT, from, to));
        // A group of a type that is not known is not there either.
        found.retain(|c| name != "an odd type" || c.rule != "group");
        assert_only(name, &found, rule);
    }
    assert_only("as a media playlist", &parse_media(MULTIVARIANT.as_bytes()).1, "mixed");
}

#[test]
fn no_bytes_make_it_panic() {
    let mut random = Random(1);
    for round in 0..3_000 {
        let seed = [LIVE, PARTS, MULTIVARIANT][round % 3];
        let bytes = mutated(&mut random, seed.as_bytes());
        if let (Playlist::Multivariant(multivariant), _) = parse(&bytes) {
            multivariant.check(&BTreeMap::new());
        }
        complaints(&bytes, round % 2 == 0);
    }
}
