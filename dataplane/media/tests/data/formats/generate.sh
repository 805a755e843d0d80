#!/bin/sh
# Makes the clips beside this script and what ffmpeg says of them. See README.md.
set -eu
cd "$(dirname "$0")"
mp4=$(mktemp --suffix=.mp4)
trap 'rm -f "$mp4"' EXIT
: >answers

clip() { # name, then what ffmpeg is to do
    name=$1
    shift
    ffmpeg -v error -y "$@" -fflags +bitexact -flags:v +bitexact -flags:a +bitexact -f mpegts "$name.ts"
    said=$(ffprobe -v error -show_entries stream=codec_name,profile,level,width,height,r_frame_rate \
        -of csv=p=0:s=\; "$name.ts" | sed 's/;$//' | grep -v '^$' | sort -u)
}

video() { # name, size, rate, filter, then the video options
    name=$1 size=$2 rate=$3 filter=$4
    shift 4
    clip "$name" -f lavfi -i "color=c=gray:size=$size:rate=$rate" -vf "$filter" -t 0.16 -threads 1 "$@"
    # The first bytes of the record that an MP4 file has for the decoder.
    config=
    case $name in
    h264-* | hevc-*)
        ffmpeg -v error -y -i "$name.ts" -c copy "$mp4"
        config=$(ffprobe -v error -show_data -show_entries stream=extradata "$mp4" \
            | sed -n 's/^00000000: \([0-9a-f ]*\)  .*/\1/p' | tr -d ' ')
        ;;
    esac
    echo "$name;$said;$config" >>answers
}

audio() { # name, sampling rate, then the audio options
    name=$1 rate=$2
    shift 2
    clip "$name" -f lavfi -i "sine=frequency=440:sample_rate=$rate" -t 0.4 -b:a 64k "$@"
    echo "$name;$said" >>answers
}

video h264-baseline 640x360 25 null -c:v libx264 -profile:v baseline
video h264-main 640x360 30000/1001 null -c:v libx264 -profile:v main
video h264-high 1920x1080 50 null -c:v libx264 -profile:v high
video h264-interlaced 1280x720 25 null -c:v libx264 -profile:v high -flags +ildct+ilme -x264-params tff=1
video h264-high10 720x576 24 format=yuv420p10,setsar=16/11 -c:v libx264 -profile:v high10
video h264-high422 718x574 25 format=yuv422p -c:v libx264 -profile:v high422
video h264-high444 720x576 25 format=yuv444p,scale=719:575 -c:v libx264 -profile:v high444 -x264-params cqm=jvt

x265=log-level=error:pools=none:frame-threads=1
video hevc-main 640x360 25 null -c:v libx265 -x265-params "$x265"
video hevc-main10 1920x1080 60000/1001 format=yuv420p10,setsar=13/11 -c:v libx265 -x265-params \
    "$x265:colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc:scaling-list=default:temporal-layers=1"
video hevc-422 718x574 50 format=yuv422p10 -c:v libx265 -x265-params \
    "$x265:high-tier=1:level-idc=5.1:ref=5:bframes=8"
video hevc-fields 720x288 50 null -c:v libx265 -x265-params "$x265:interlace=tff"

video mpeg2-main 720x576 25 null -c:v mpeg2video
video mpeg2-high 1920x1080 30000/1001 null -c:v mpeg2video -profile:v high -level:v high
video mpeg2-422 720x576 25 format=yuv422p -c:v mpeg2video -flags +ildct+ilme
video mpeg1 352x288 24000/1001 null -c:v mpeg1video

audio aac 48000 -c:a aac
audio aac-latm 44100 -c:a aac -mpegts_flags latm
audio mp2 48000 -c:a mp2
audio mp3 44100 -c:a libmp3lame
audio mp3-lsf 22050 -c:a libmp3lame
audio ac3 48000 -c:a ac3
audio ac3-dvb 48000 -c:a ac3 -mpegts_flags system_b
audio eac3 48000 -c:a eac3
audio eac3-dvb 48000 -c:a eac3 -mpegts_flags system_b

# Offset and time stamp of each PES packet of video.
ffprobe -v error -select_streams v -show_entries packet=dts,pos -of csv=p=0 ../h264.ts \
    | awk -F, '/[0-9]/ { print $2 ";" $1 }' >times
