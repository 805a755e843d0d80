#!/bin/sh
# Makes clip.ts, the programme that the emulator plays for ever.
#
# 12.8 s is the shortest length above ten seconds that is a whole number of
# video frames (320 at 25 fps), of AAC frames (600 of 1,024 samples at 48 kHz)
# and of closed GOPs (8 of 40 frames), so that lap follows lap without a seam.
# Sound is encoded first, by itself: the multiplexer then takes all 600 frames.
set -eu
cd "$(dirname "$0")"
sound=$(mktemp)
trap 'rm -f "$sound"' EXIT
ffmpeg -hide_banner -loglevel error -y \
    -f lavfi -i "sine=frequency=440:beep_factor=4:sample_rate=48000:duration=14" \
    -frames:a 600 -c:a aac -b:a 48k -ac 1 -flags +bitexact -f adts "$sound"
ffmpeg -hide_banner -loglevel error -y \
    -f lavfi -i "testsrc2=size=640x360:rate=25:duration=12.8" -f aac -i "$sound" \
    -map 0:v -map 1:a \
    -c:v libx264 -preset slow -profile:v main -pix_fmt yuv420p -bf 2 \
    -b:v 400k -maxrate 450k -bufsize 300k \
    -x264-params "keyint=40:min-keyint=40:scenecut=0:open-gop=0" \
    -c:a copy -flags +bitexact -fflags +bitexact \
    -f mpegts -pcr_period 20 -pat_period 0.08 -sdt_period 1 -muxdelay 0.5 -muxpreload 0.5 \
    -mpegts_service_type digital_tv -metadata service_name="Millrace" \
    clip.ts
