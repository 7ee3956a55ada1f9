#!/bin/sh
# Makes every WAV file of this folder anew: 8000 Hz, 16 bit, mono. Needs espeak-ng and sox.
set -eu
cd "$(dirname "$0")"
mkdir -p names

# One sentence: speak at the voice's own rate, bring to telephone rate and band, cut silence at both ends, leave 60 ms
# of it so that clips played one behind the other do not run into each other, and level to -3 dBFS.
say() {
    file=$1
    shift
    voice=${VOICE:-en-gb}
    espeak-ng -v "$voice" -s "${SPEED:-155}" --stdout "$*" |
        sox -R -t wav - -r 8000 -b 16 -c 1 "$file" \
            vol 0.7 highpass 200 lowpass 3400 \
            silence 1 0.01 0.5% reverse silence 1 0.01 0.5% reverse \
            norm -3 pad 0.02 0.06
}

say hello.wav "Hello"
for name in Ada Grace Alan there; do
    say "names/$name.wav" "$name"
done
say welcome.wav "Welcome to Analytical Engines. You are speaking with a computer, and this call is recorded."
say may-we-record.wav "May we record this call? Press one to agree."
say menu.wav "For the state of your order, press one. For a colleague, press two."
say no-match.wav "I did not get that."
say waiting.wav "One moment, I am looking that up."
say order-shipped.wav "Your order was shipped yesterday, and will be with you tomorrow."
say order-open.wav "Your order is being packed, and leaves us today."
say order-unknown.wav "I cannot find your order. A colleague will help you."
say transfer.wav "I am putting you through to a colleague."
say sorry.wav "I am sorry, nobody is free at the moment."
say goodbye.wav "Thank you for calling. Goodbye."
say went-wrong.wav "Something went wrong, try again."
VOICE=en-us SPEED=165 say colleague.wav "Hello, this is the order desk. What can I do for you today?"
VOICE=en-gb-scotland SPEED=150 say caller.wav "Good morning. I would like to know where my order is, please. It should have come on Monday."

# Music: a slow arpeggio over four chords, 2.5 s each, so 10 s; the end fits the beginning. Pure sines, so that a test
# finds the notes again: A minor, F, C, G, with the root an octave below held through the chord.
chord() {
    file=$1
    shift
    sox -R -n -r 8000 -b 16 -c 1 "$file" \
        synth 2.5 sine "$1" sine "$2" sine "$3" sine "$4" remix - \
        tremolo 4 30 fade q 0.05 2.5 0.2 norm -9
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chord "$work/1.wav" 220.00 440.00 523.25 659.26
chord "$work/2.wav" 349.23 440.00 523.25 698.46
chord "$work/3.wav" 261.63 392.00 523.25 659.26
chord "$work/4.wav" 392.00 493.88 587.33 783.99
sox -R "$work/1.wav" "$work/2.wav" "$work/3.wav" "$work/4.wav" music.wav
