#!/bin/bash
# Makes assets/demo.mp4, the clip that `sluicegate demo` plays. Needs ffmpeg with libx264 and the Inter or DejaVu Sans font.
#
#   assets/make-demo.sh [OUTPUT]        some minutes on two cores
#
# What a test may rely on:
#   * 80 s, 1280x720, 25 frames/s (frame n is shown at n/25 s), a key frame every 2 s, index at the front, AAC 48 kHz stereo.
#   * The square of 64x64 px whose top left corner is at (1192, 24) is white in the two frames 25k and 25k+1 that begin
#     each whole second k, and black in all others. A whole-frame flash, far weaker, goes with it.
#   * A 1 kHz beep of 80 ms begins on the same instant, sample 48000k, far louder than all else at 1 kHz: the music under
#     it stays below 450 Hz.
#   * Hills, sun and sky move in every frame; the time is burned in at the bottom left of the picture's upper third.
set -euo pipefail
out=${1:-"$(dirname "$0")/demo.mp4"}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
seconds=80 fps=25
frames=$((seconds * fps))
ff() { ffmpeg -hide_banner -loglevel error -nostdin -y "$@"; }

# One vertical gradient per time of day: four colours from the top, of the zenith, the upper sky, the low sky and the horizon.
lerp() { # channel values at 0, 40 %, 75 % and 100 % of the height
    echo "if(lt(Y,288),$1+($2-$1)*Y/288,if(lt(Y,540),$2+($3-$2)*(Y-288)/252,$3+($4-$3)*(Y-540)/180))"
}
sky() { # name, r×4, g×4, b×4, stars
    local stars="if(lt(random(1),0.0009*$5*(1-Y/500)),90+random(2)*120,0)"
    ff -f lavfi -i "nullsrc=s=1280x720:r=1:d=1,format=gbrp,geq=r='$(lerp $2)+st(0,$stars)':g='$(lerp $3)+ld(0)':b='$(lerp $4)+ld(0)'" \
        -frames:v 1 "$work/$1.png"
}
sky night "10 18 34 52"      "16 27 48 66"      "34 52 82 100"     1
sky dawn  "38 92 214 240"    "46 84 138 176"    "82 108 116 128"   0
sky day   "58 104 168 214"   "122 164 204 224"  "186 208 222 226"  0
sky dusk  "20 78 198 214"    "26 76 120 118"    "46 92 92 84"      0

# The sun: a disc with a wide soft glow.
ff -f lavfi -i "nullsrc=s=560x560:r=1:d=1,format=rgba,geq=r=246:g=214:b=164:a='st(0,hypot(X-279.5,Y-279.5));clip((47-ld(0))*255,0,255)+if(gte(ld(0),46),70*pow(max(0,1-(ld(0)-46)/234),2.4),0)'" \
    -frames:v 1 "$work/sun.png"

# Hills, far to near. Each strip is as long as it scrolls: a whole number of pixels per frame keeps every edge sharp.
hills() { # name, px per frame, base height, wave heights and lengths, phase, top colour, bottom colour
    local w=$((1280 + frames * $2)) ridge="($3-$4*sin(X/$5+$6)-$4*0.55*sin(X/($5*0.43)+$6*2.1)-$4*0.16*sin(X/($5*0.13)+$6*3.3))"
    local tint="st(1,clip((Y-$ridge)/260,0,1))"
    ff -f lavfi -i "nullsrc=s=${w}x720:r=1:d=1,format=rgba,geq=r='$tint;$7+(${10}-$7)*ld(1)':g='$tint;$8+(${11}-$8)*ld(1)':b='$tint;$9+(${12}-$9)*ld(1)':a='clip((Y-$ridge)*255+128,0,255)'" \
        -frames:v 1 "$work/$1.png"
}
hills far  1 400 58 236 0.4   74 86 112   46 56 80
hills mid  2 492 50 318 2.2   47 57 78    30 38 56
hills near 3 586 40 420 4.0   31 39 55    17 22 33
hills lawn 5 668 24 520 5.1   19 24 35    9 12 18

font=$(fc-match -f '%{file}' 'Inter:semibold' 2>/dev/null || true)
hold="loop=loop=$frames:size=1:start=0,setpts=N/$fps/TB,fps=$fps"
# Night to day and into the next night; the sun climbs, crosses and sinks behind the far hills.
graph="
[0:v]$hold,trim=duration=24,setpts=PTS-STARTPTS,format=gbrp[night];
[1:v]$hold,trim=duration=34,setpts=PTS-STARTPTS,format=gbrp[dawn];
[2:v]$hold,trim=duration=50,setpts=PTS-STARTPTS,format=gbrp[day];
[3:v]$hold,trim=duration=40,setpts=PTS-STARTPTS,format=gbrp[dusk];
[4:v]$hold,trim=duration=30,setpts=PTS-STARTPTS,format=gbrp[late];
[night][dawn]xfade=transition=fade:duration=12:offset=4[s1];
[s1][day]xfade=transition=fade:duration=16:offset=20[s2];
[s2][dusk]xfade=transition=fade:duration=16:offset=44[s3];
[s3][late]xfade=transition=fade:duration=14:offset=66[sky0];
[sky0]trim=end_frame=$frames,noise=c0s=5:c1s=5:c2s=5:allf=t+u[sky];
[5:v]$hold[sun];[6:v]$hold[far];[7:v]$hold[mid];[8:v]$hold[near];[9:v]$hold[lawn];
[sky][sun]overlay=x='80+n*0.43':y='-90+620*pow((t-39)/39\,2)':eval=frame:shortest=1[a];
[a][far]overlay=x='-n':y=0:eval=frame[b];
[b][mid]overlay=x='-n*2':y=0:eval=frame[c];
[c][near]overlay=x='-n*3':y=0:eval=frame[d];
[d][lawn]overlay=x='-n*5':y=0:eval=frame[e];
[e]eq=brightness=0.07:enable='lt(mod(n\,$fps)\,2)',
drawtext=fontfile='$font':fontsize=46:fontcolor=white@0.92:shadowcolor=black@0.45:shadowx=2:shadowy=2:x=48:y=176:text='%{eif\:floor(n/1500)\:d}\:%{eif\:mod(floor(n/25)\,60)\:d\:2}',
drawtext=fontfile='$font':fontsize=24:fontcolor=white@0.72:shadowcolor=black@0.45:shadowx=1:shadowy=1:x=50:y=232:text='frame %{n}',
drawbox=x=1184:y=16:w=80:h=80:color=0x0E1116:t=fill,
drawbox=x=1192:y=24:w=64:h=64:color=black:t=fill,
drawbox=x=1192:y=24:w=64:h=64:color=white:t=fill:enable='lt(mod(n\,$fps)\,2)',
format=yuv420p[v]"

# Four slow chords, quiet and low, under the beep of each second. A low-pass keeps the edges of the chords off 1 kHz.
chord() { echo "(sin(2*PI*$1*t)+0.8*sin(2*PI*$2*t)+0.6*sin(2*PI*$3*t)+0.3*sin(2*PI*$4*t+sin(t)))"; }
swell="0.020*pow(sin(PI*mod(t,8)/8),2)"
pad="$swell*if(lt(mod(t,32),8),$(chord 110 164.81 220 277.18),if(lt(mod(t,32),16),$(chord 92.5 138.59 220 277.18),if(lt(mod(t,32),24),$(chord 73.42 146.83 220 369.99),$(chord 82.41 164.81 246.94 415.3))))"
beep="if(lt(mod(round(t*48000),48000),3840),0.32*sin(2*PI*1000*mod(round(t*48000),48000)/48000),0)"
sound="aevalsrc='$pad|0.9*($pad)':s=48000:d=$seconds,lowpass=f=480[p];aevalsrc='$beep|$beep':s=48000:d=$seconds[q];[p][q]amix=inputs=2:normalize=0[a]"

inputs=()
for i in night dawn day dusk night sun far mid near lawn; do inputs+=(-i "$work/$i.png"); done
ff "${inputs[@]}" -filter_complex "$graph" -map '[v]' -frames:v "$frames" -r $fps \
    -c:v libx264 -preset veryfast -qp 0 "$work/raw.mkv"
rate=(-c:v libx264 -profile:v high -preset slow -tune animation -b:v 640k -maxrate 1300k -bufsize 2600k
    -x264-params "keyint=50:min-keyint=50:scenecut=0:open-gop=0:threads=2:aq-mode=3" -pix_fmt yuv420p
    -color_primaries bt709 -color_trc bt709 -colorspace bt709)
ff -i "$work/raw.mkv" "${rate[@]}" -pass 1 -passlogfile "$work/log" -an -f null /dev/null
ff -i "$work/raw.mkv" -filter_complex "$sound" -map 0:v -map '[a]' "${rate[@]}" -pass 2 -passlogfile "$work/log" \
    -c:a aac -b:a 96k -fflags +bitexact -flags:v +bitexact -flags:a +bitexact -map_metadata -1 \
    -metadata title="Sluicegate demo" -movflags +faststart -t $seconds "$out"
