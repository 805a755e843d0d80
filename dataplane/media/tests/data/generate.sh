#!/bin/sh
# Makes the clips and the answers of ffprobe beside this script. See README.md.
set -eu
cd "$(dirname "$0")"

clip() { # name, then the video options
    name=$1
    shift
    ffmpeg -v error -y \
        -f lavfi -i testsrc2=size=160x96:rate=25:duration=6 \
        -f lavfi -i sine=frequency=440:sample_rate=32000:duration=6 \
        "$@" -c:a aac -b:a 24k -ac 1 -map 0:v -map 1:a \
        -fflags +bitexact -flags:v +bitexact -flags:a +bitexact \
        -f mpegts -pat_period 0.5 -muxrate 0 "$name.ts"
    ffprobe -v error -select_streams v -show_entries packet=pos,flags -of csv=p=0 "$name.ts" \
        | awk -F, '/K/ { for (i = 1; i <= NF; i++) if ($i ~ /^[0-9]+$/) print $i }' >"$name.keyframes"
}

clip h264 -c:v libx264 -preset veryfast -g 30 -bf 2 -b:v 120k -threads 1
clip hevc -c:v libx265 -preset veryfast -b:v 100k \
    -x265-params keyint=30:min-keyint=30:open-gop=1:log-level=error:pools=none:frame-threads=1
clip mpeg2 -c:v mpeg2video -g 30 -bf 2 -b:v 80k -threads 1
