//! Every bound in the house, with its reason and what happens when it is reached.

use std::time::Duration;

/// Longest address we dial or store. SIP URIs of carriers stay below 100; longer is refused as no address.
pub const ADDRESS_LEN_MAX: usize = 256;

/// Longest host name (RFC 1035 §2.3.4, written without its lengths); longer is no host.
pub const HOST_LEN_MAX: usize = 253;

/// Longest written number that is looked at; real ones have at most 15 digits and a few parameters. Longer ones stay as
/// they are.
pub const NUMBER_LEN_MAX: usize = 128;

/// Variables on one call. A lookup may bring a few dozen; further ones are not set.
pub const VARS_MAX: usize = 256;

/// Longest variable name; longer names are not set.
pub const VAR_NAME_LEN_MAX: usize = 128;

/// Longest variable value, written as JSON. An order list fits; a longer value is not set.
pub const VAR_LEN_MAX: usize = 16 * 1024;

/// Events waiting for one call's task. A call makes a handful a second, so a full mailbox is a fault or an attack:
/// statistics are dropped and counted, and at twice this many the call is ended. Endings are never dropped.
pub const CALL_MAILBOX: usize = 256;

/// Audio from an agent waiting to be played. Vendors send a whole answer at once; two minutes covers the longest we
/// have seen. When full, we stop reading the WebSocket.
pub const AGENT_AUDIO_MAX: Duration = Duration::from_secs(120);

/// Audio from the caller waiting for an agent's socket. A socket that stalls longer has lost the turn anyway:
/// the oldest is dropped and counted.
pub const CALLER_AUDIO_MAX: Duration = Duration::from_secs(2);

/// Legs on one call over its whole life: caller, agent, and every transfer target tried. More are refused.
pub const LEGS_MAX: usize = 64;

/// Pairs of a listener and a source: eight parties who all hear each other make 56. More are not wired.
pub const WIRES_MAX: usize = 64;

/// Action runs on one call. A workflow that loops reaches it and is ended with an error.
pub const RUNS_MAX: usize = 1_000;

/// Steps a workflow may take without waiting for anything. A loop of empty steps reaches it and is ended.
pub const STEPS_WITHOUT_WAITING_MAX: usize = 64;

/// Actions running at once on one call. An agent that asks for more is told to wait.
pub const RUNS_AT_ONCE_MAX: usize = 16;

/// Longest template of an admin, and longest text it may render to; a longer result is cut.
pub const TEMPLATE_LEN_MAX: usize = 16 * 1024;

/// Longest answer of an API that we read. A CRM record is a few kB; the run fails with `too_large` beyond.
pub const API_BODY_MAX: usize = 256 * 1024;

/// Words of one call that are kept for its record, in octets: some fifteen hours of talk. Further ones are not kept.
pub const TRANSCRIPT_MAX: usize = 1024 * 1024;
/// Longest tool name or fault code of a vendor that is kept; tools have 64 characters at most. Longer ones are cut, and
/// then name no tool.
pub const VENDOR_WORD_MAX: usize = 128;
/// Longest arguments an agent may give to a tool, as JSON text; longer ones are answered with an error.
pub const TOOL_ARGUMENTS_MAX: usize = 16 * 1024;

/// Longest result given back to an agent; the rest is cut off and says so.
pub const TOOL_RESULT_MAX: usize = 8 * 1024;

/// How long a call may last when its agent says nothing else.
pub const CALL_DURATION_MAX: Duration = Duration::from_secs(1800);

/// How long two people may talk after a transfer. An agent's own limit is not meant for them; a line that was forgotten
/// ends all the same.
pub const TRANSFERRED_DURATION_MAX: Duration = Duration::from_secs(4 * 3600);
/// How long a caller may ring: the ring budget of any agent is cut to this, below the 10 s at which carriers re-route.
pub const RING_BUDGET_MAX: Duration = Duration::from_secs(8);

/// Longest session description we read. Offers of browsers stay below 8 kB; longer is answered as broken.
pub const SDP_LEN_MAX: usize = 16 * 1024;

/// Streams in one session description. A conference room offers a handful; more is answered as broken.
pub const SDP_STREAMS_MAX: usize = 32;

/// Lines of media keys in one stream that are looked at. A peer that offers every suite has nine; further ones are passed
/// over.
pub const SDP_KEYS_MAX: usize = 16;

/// Longest line of media keys that is read: a key of 46 octets is 62 in base64. A longer one is no key.
pub const SDP_KEY_LEN_MAX: usize = 512;

/// Sources (SSRC) of one protected stream whose packets are told from their copies. A far end that changes its source, as
/// with music on hold, has two at a time; the one that was silent longest is forgotten. Only a source that proved itself
/// is remembered, so strangers cannot fill this.
pub const SRTP_SOURCES_MAX: usize = 4;

/// Longest RTCP datagram that is read. A report about one stream with its name has 100 octets, with extended figures 150;
/// a longer one is counted and dropped.
pub const RTCP_LEN_MAX: usize = 1024;

/// SIP events waiting for the gateway. A second of very heavy traffic; when full, new calls are answered 503 with
/// Retry-After, and events of calls that exist wait.
pub const SIP_EVENTS: usize = 1024;

/// Events of existing dialogs held back while the gateway does not read; beyond it we stop reading the network.
pub const SIP_BACKLOG_MAX: usize = 4096;

/// Commands waiting for the SIP task. The sender waits when it is full.
pub const SIP_COMMANDS: usize = 1024;

/// Longest file of certificates. All authorities of a system are about 250 kB.
pub const CERTIFICATES_LEN_MAX: u64 = 1024 * 1024;

/// SIP connections that others opened, in all. A thousand phones on TCP, and browsers; further ones are closed at once.
pub const SIP_CONNECTIONS_MAX: usize = 4096;

/// SIP connections that one address opened. A whole office behind one NAT; further ones are closed at once.
pub const SIP_CONNECTIONS_PER_SOURCE_MAX: usize = 512;

/// Messages waiting to leave on one SIP connection. A peer that does not read loses the connection when it is full.
pub const SIP_CONNECTION_QUEUE: usize = 256;

/// Messages and news of all SIP connections waiting to be looked at. When full, connections are not read.
pub const SIP_CONNECTION_EVENTS: usize = 1024;

/// How long a SIP peer may take to read what was written to it, before its connection is given up.
pub const SIP_WRITE_MAX: Duration = Duration::from_secs(10);

/// How long opening a SIP connection may take, TLS and WebSocket included. SYNs are repeated after 1 and 3 s.
pub const SIP_HANDSHAKE_MAX: Duration = Duration::from_secs(8);

/// How long a message may take to arrive on a connection, and how long a new connection may say nothing.
pub const SIP_MESSAGE_ARRIVES_MAX: Duration = Duration::from_secs(30);

/// How long a SIP connection may be silent. Peers that keep one alive ping every two minutes (RFC 5626 §4.4.1).
pub const SIP_IDLE_MAX: Duration = Duration::from_secs(1800);

/// SIP transactions at once. 500 calls a second keep 32,000 for 32 s after their end; beyond, requests are dropped.
pub const SIP_TRANSACTIONS_MAX: usize = 200_000;

/// Requests of ours whose end is waited for; each dialog has one or two. Further ones fail at once.
pub const SIP_ERRANDS_MAX: usize = 2 * SIP_DIALOGS_MAX;

/// Targets tried for one request. A domain with more SRV records has enough of them down.
pub const SIP_HOPS_MAX: usize = 8;

/// How long the first of several targets may be silent before the next is tried, in T1: four repetitions.
pub const SIP_HOP_SILENCE_T1: u32 = 8;

/// Addresses of ours that are remembered by peer; all are forgotten when full.
pub const SIP_ROUTES_KNOWN_MAX: usize = 4096;

/// How long they are remembered, since routes change.
pub const SIP_ROUTES_KNOWN_FOR: Duration = Duration::from_secs(60);

/// Receive buffer of a UDP socket for SIP: a second of 2,000 messages of 2 kB, while the task does something else. The
/// system may grant less.
pub const SIP_SOCKET_BUFFER: usize = 4 * 1024 * 1024;

/// Lookups of names at once. A resolver that hangs must not gather more; further ones fail.
pub const SIP_LOOKUPS_MAX: usize = 256;

/// How long finding the targets of one name may take.
pub const SIP_LOOKUP_TAKES_MAX: Duration = Duration::from_secs(5);

/// Dialogs at once. Ten times what one machine carries; further INVITEs are answered 503.
pub const SIP_DIALOGS_MAX: usize = 20_000;

/// Longest SIP message we serve; longer ones are answered 513 or dropped.
pub const SIP_MESSAGE_MAX: usize = 64 * 1024;

/// Headers of an INVITE that are passed on; the rest is left out. Carriers send about twenty.
pub const SIP_HEADERS_MAX: usize = 64;

/// Names and addresses read of one header that lists them. A call is rarely sent on more than three times; what stands
/// behind this many is not looked at.
pub const SIP_ADDRESSES_MAX: usize = 32;

/// Octets of one User-to-User header that are read as words: ISDN carries 128 (RFC 7433 §4). A longer one stays as it is.
pub const USER_TO_USER_MAX: usize = 256;

/// Longest header value that is passed on (an Identity header takes about 1 kB); a longer one is left out.
pub const SIP_HEADER_LEN_MAX: usize = 4096;

/// Routes in one dialog. RFC 3261 sets none, and Max-Forwards allows 70; a longer set is answered 400.
pub const SIP_ROUTES_MAX: usize = 70;

/// Provisional answers of one outbound call that are told; a callee that sends more is no longer news.
pub const SIP_RINGS_MAX: usize = 32;

/// Answers to one of our INVITEs that wait to be looked at. More is a flood: further provisional ones are left out.
pub const SIP_ANSWERS_MAX: usize = 64;

/// Surplus answers of forks that are hung up one by one; further ones time out at their own end.
pub const SIP_FORKS_MAX: usize = 16;

/// How often a ringing call is told that it still rings: RFC 3261 §13.3.1.1 asks for once a minute, since proxies
/// give up after three.
pub const SIP_RING_REPEAT: Duration = Duration::from_secs(60);

/// The longest interval between signs of life that a peer may ask for (RFC 4028). A longer one is cut to this: a week is
/// longer than any call, and short enough for every clock.
pub const SESSION_INTERVAL_MAX: Duration = Duration::from_secs(7 * 86_400);

/// How often a request within a dialog is tried again when it collides with one of the other side (491, 500). Two
/// random waits nearly always part them; a peer that refuses this often means it.
pub const SIP_COLLISIONS_MAX: u32 = 6;

/// Commands waiting for one media worker, of all its calls. A worker takes them every millisecond, so a full mailbox
/// means that it hangs: the command is refused and the call hears of it. Dropping a call needs no room.
pub const MEDIA_COMMANDS_MAX: usize = 4096;

/// Commands of one call waiting for its media worker; a call makes a few per second. Above three quarters only
/// endings and wiring are taken.
pub const MEDIA_COMMANDS_PER_CALL_MAX: usize = 64;

/// Batches of notices waiting for the gateway. A worker makes one per millisecond at most; when the gateway is a
/// quarter of a second behind, workers hold further notices back.
pub const NOTICE_BATCHES_MAX: usize = 256;

/// Notices a worker holds back for a gateway that does not keep up, per open leg: 2 s of frames, as for
/// [`CALLER_AUDIO_MAX`]. Beyond, the oldest frames are dropped and counted; other notices never are.
pub const NOTICES_HELD_PER_LEG_MAX: usize = 100;

/// Clips in one play. A prompt put together from words needs a dozen; a longer list is refused.
pub const PLAY_CLIPS_MAX: usize = 64;

/// Longest WAV file taken as a clip. Music on hold loops sooner; a longer file is refused when it is loaded.
pub const CLIP_MAX: Duration = Duration::from_secs(600);

/// Digits waiting to be sent on one leg. Card numbers have 19; more are refused.
pub const DIGITS_MAX: usize = 64;

/// Pieces of agent speech taken from the socket per leg in one 20 ms tick. Vendors send some 50 per second of audio
/// at up to ten times real time; what is not taken waits in the channel for the next tick.
pub const SPEECH_PER_TICK_MAX: usize = 64;

/// The same, counting also what an interruption has made stale and is dropped unheard.
pub const STALE_SPEECH_PER_TICK_MAX: usize = 1024;

/// Datagrams taken from one socket in one millisecond. A leg sends one every 20 ms; the rest of a flood waits for the
/// next slot, so that other calls get theirs.
pub const DATAGRAMS_PER_SLOT_MAX: usize = 64;

/// Packets held behind a gap. At 20 ms they cover 640 ms, far more than the 40 ms they are held for; a packet further
/// ahead ends the wait.
pub const REORDER_MAX: usize = 32;

/// Datagrams waiting in one direction of a pipe between a media worker and the thread that speaks to the network for
/// it: 640 ms at 20 ms each. What finds no room is lost, as on a network.
pub const PIPE_DATAGRAMS_MAX: usize = 32;

/// Audio of one party waiting to be encoded for another. Later than that nobody wants to hear it: the oldest goes.
pub const RELAY_MAX: Duration = Duration::from_millis(400);

/// Audio in one RTP packet. RFC 7587 §4.2 lets Opus put 120 ms into one; of other codecs nobody sends more than 60. A
/// longer packet is refused and counted.
pub const PACKET_MAX: Duration = Duration::from_millis(120);

/// Audio between a worker and the disk. A disk that stalls longer leaves silence in the recording, counted.
pub const RECORDER_QUEUE_MAX: Duration = Duration::from_secs(2);

/// How much of a recording a crash may cost: as often what was recorded is made a file that can be opened.
pub const RECORDING_FLUSH_EVERY: Duration = Duration::from_secs(5);

/// Threads that write recordings. One writes two thousand calls as WAV, and some three hundred as Opus, which it encodes.
pub const RECORDING_THREADS: usize = 2;

/// Longest message on the socket of a caller: a second of audio in base64 is 11 kB, or 43 kB in the wide form. A longer one
/// ends the stream.
pub const STREAM_MESSAGE_MAX: usize = 64 * 1024;

/// Audio in one message of such a socket. Carriers send 20 to 100 ms; a longer one is not heard.
pub const STREAM_AUDIO_MAX: Duration = Duration::from_secs(1);

/// Messages without sense on such a socket; one more, and it is closed.
pub const STREAM_IGNORED_MAX: u32 = 100;

/// Characters that are kept of a text of such a socket: numbers, names, values. Carriers allow 500 for name and value.
pub const STREAM_TEXT_MAX: usize = 512;

/// Variables that such a caller may bring; further ones are not kept.
pub const STREAM_VARIABLES_MAX: usize = 64;

/// Events and masks on the page about a recording: a call has a few dozen. Further ones are not noted.
pub const RECORDING_EVENTS_MAX: usize = 1000;

/// How often recordings whose time is over are destroyed.
pub const RECORDINGS_CLEARED_EVERY: Duration = Duration::from_secs(3600);

/// Audio inside the echo agent. Reached only when it is not listened to: the oldest is dropped.
pub const ECHO_MAX: Duration = Duration::from_secs(2);

/// How long packets under the key before are still read after keys changed. The other side changes when our answer has
/// reached it, and what it sent before that is under way.
pub const KEY_GRACE: Duration = Duration::from_secs(2);

/// Mean time between two reports by RTCP (RFC 3550 §6.2).
pub const REPORT_EVERY: Duration = Duration::from_secs(5);

/// How close together three packets from a new place must be to show where a party is. Five packets of 20 ms; a guesser
/// who sends now and then stays one.
pub const LATCH_WINDOW: Duration = Duration::from_millis(200);

/// How long a party must be silent before its stream may go on from another place without proof. A NAT that forgets a
/// port takes longer, a stranger has to wait for the party to go.
pub const REBIND_AFTER: Duration = Duration::from_secs(1);

/// How long a party may send nothing before the gateway is told. Phones with silence suppression pause for a breath or
/// a thought, so this is a party that has gone, or a network that has. What follows is the call's decision.
pub const RTP_QUIET: Duration = Duration::from_secs(10);

/// Beginnings and ends of calls that wait for the store: those of several seconds at 500 calls in each. When full, calls
/// wait, and what is answered meanwhile is noted later.
pub const STORE_PAPERS_MAX: usize = 4_096;

/// Beginnings and ends of calls that share one transaction. More would keep other writers from the store for longer than
/// ten milliseconds.
pub const STORE_BATCH_MAX: usize = 128;

/// How long a closed RTP port stays bound before another call may get it, so that late packets do not reach that call.
pub const RTP_PORT_REST: Duration = Duration::from_secs(3);

/// From dialling an agent until its session is ready, when its settings say nothing else. A healthy vendor takes below
/// a second; the ring budget ends long before. When it is over, the agent has failed.
pub const AGENT_CONNECT_MAX: Duration = Duration::from_secs(5);

/// How often an agent's socket is pinged. A socket that stayed silent from one ping to the next is dead, and left.
pub const AGENT_PING_EVERY: Duration = Duration::from_secs(20);

/// How long an agent's vendor may take to close its side, and the call to take the last events.
pub const AGENT_CLOSE_MAX: Duration = Duration::from_secs(1);

/// Longest message read from an agent's vendor. Audio comes in pieces of some kB; the largest known message repeats the
/// whole session with all tools. A longer one breaks the protocol, and the socket is left.
pub const AGENT_MESSAGE_MAX: usize = 2 * 1024 * 1024;

/// Messages and commands waiting for an agent's socket. When full, no further commands are taken from the call.
pub const AGENT_OUTBOX: usize = 64;

/// Things an agent still has to say or answer to, because somebody else is speaking. Further ones are dropped as a fault.
pub const AGENT_WANTS_MAX: usize = 16;

/// Utterances of an agent that are not fully heard yet. Beyond, the oldest is forgotten and cannot be truncated.
pub const AGENT_ITEMS_MAX: usize = 256;

/// Messages in a row that cannot be read before an agent's vendor is taken for something else, and left.
pub const AGENT_MALFORMED_MAX: u32 = 10;

/// Longest transcript of one utterance; the rest is cut off. An hour of fast speech has some 60,000 characters.
pub const AGENT_TRANSCRIPT_MAX: usize = 64 * 1024;

/// Longest message of a vendor's error that is passed on; the rest is cut off.
pub const AGENT_FAULT_MAX: usize = 512;

/// Keys that a test phone presses ahead or remembers; more are refused or not remembered.
pub const PHONE_DIGITS_MAX: usize = 128;

/// Stretches of sound that a test phone tells apart: half an hour of talk. Later ones are taken as part of the last.
pub const PHONE_SPURTS_MAX: usize = 16 * 1024;

/// How much a test phone records; the rest of the call is not in its recording.
pub const PHONE_RECORDING_MAX: Duration = Duration::from_secs(600);

/// Orders waiting for a test phone. Whoever gives more waits.
pub const PHONE_ORDERS: usize = 16;

/// Reports of finished calls waiting to be read from a test phone that is called; further ones are thrown away.
pub const PHONE_REPORTS: usize = 64;

/// Recordings waiting to be opened on the disk. Beyond, a call goes on without its recording and hears of it.
pub const RECORDINGS_OPENING_MAX: usize = 1024;

/// Longest file of the configuration. A prompt of 16 KiB and a workflow of a hundred steps stay far below; a longer
/// file is a mistake and is not read.
pub const CONFIG_FILE_LEN_MAX: u64 = 1024 * 1024;

/// Files in one configuration: several thousand agents and actions. More are a wrong folder, and none is read.
pub const CONFIG_FILES_MAX: usize = 10_000;

/// Mistakes reported in one pass; nobody reads more. The rest is counted.
pub const CONFIG_MISTAKES_MAX: usize = 200;

/// Mistakes of one kind of check kept for sorting before the first [`CONFIG_MISTAKES_MAX`] are reported; further ones are
/// forgotten, so that a hostile tree cannot fill memory.
pub const CONFIG_MISTAKES_KEPT: usize = 20_000;

/// Bytes of all files of one configuration together: a hundred full prompts and ten thousand small files. Beyond it
/// nothing more is read, and the configuration is refused.
pub const CONFIG_LEN_MAX: usize = 64 * 1024 * 1024;

/// Longest id of an object; vendors take tool names of 64 characters.
pub const ID_LEN_MAX: usize = 64;

/// Options of one menu. Callers forget the first when they hear the tenth.
pub const MENU_OPTIONS_MAX: usize = 10;

/// Steps of one workflow; more is a mistake in the file.
pub const WORKFLOW_STEPS_MAX: usize = 200;

/// Targets of one transfer, the first and those that follow.
pub const TRANSFER_TARGETS_MAX: usize = 10;

/// Longest credential in a file. Keys in PEM stay below 8 KiB; a longer file is something else and is refused.
pub const SECRET_LEN_MAX: u64 = 16 * 1024;

/// Longest exchange with a web service, whatever its action says. Nobody waits longer, and after a call a request that
/// takes longer is broken: it fails as a timeout.
pub const HTTP_TIMEOUT_MAX: Duration = Duration::from_secs(120);

/// Connections kept open to one web service while nothing is asked. More are closed after their answer.
pub const HTTP_IDLE_CONNECTIONS_MAX: usize = 16;

/// Largest event body. Standard Webhooks asks senders to stay below 20 kB; a larger record leaves out its transcript,
/// then its runs, then its context, and says so.
pub const EVENT_BODY_MAX: usize = 20_000;

/// Answer of a webhook receiver that we read. It means nothing to us; reading a little lets a connection be reused.
pub const RECEIVER_ANSWER_MAX: usize = 4 * 1024;

/// Deliveries to one endpoint at once. More wait in the store.
pub const DELIVERIES_AT_ONCE_MAX: usize = 4;

/// Failures in a row after which an endpoint gets one delivery at a time, until one succeeds.
pub const DELIVERY_FAILURES_IN_A_ROW_MAX: usize = 5;

/// Longest pause that a receiver's Retry-After may ask for; a longer one is cut to this.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3600);

/// After-call workflows running at once. More wait in the store.
pub const JOBS_AT_ONCE_MAX: usize = 8;

/// Tries of one step after a call, when trying again is safe. The last failure is the step's outcome.
pub const STEP_TRIES_MAX: u32 = 4;

/// Frames of the caller waiting for an agent's socket task, beside what the socket itself holds back: some 300 ms.
/// When full, frames are dropped and counted; the task has stalled.
pub const AGENT_EAR: usize = 16;

/// Pieces of an agent's audio on their way to the media worker. When full, the socket is not read.
pub const AGENT_SPEECH: usize = 64;

/// Stops on their way to the media worker; there is hardly ever a second. When full, the socket is not read.
pub const AGENT_MOUTH: usize = 8;

/// Words of a call for its agent. When full, its socket has stalled; further ones are dropped and counted.
pub const AGENT_COMMANDS: usize = 64;

/// An agent's events on their way to its call. When full, the socket is not read.
pub const AGENT_EVENTS: usize = 64;

/// Largest journal or vault that `ringback replay` reads. A call of half an hour writes about 1 MiB; a larger file is
/// refused.
pub const JOURNAL_FILE_MAX: u64 = 256 * 1024 * 1024;

/// Events and notes that the demonstration's CRM remembers. It makes a handful of calls; further ones are refused.
pub const DEMO_HOOKS_MAX: usize = 1024;

/// Identity headers of one INVITE that are looked at: the caller's, a few diversions, a name. Further ones are left out.
pub const STIR_IDENTITIES_MAX: usize = 8;

/// How old a signed identity may be, and how far ahead of our clock. RFC 8224 §6.2.1 recommends a minute; beyond it, it
/// could be one that somebody overheard.
pub const STIR_AGE_MAX: Duration = Duration::from_secs(60);

/// Certificates between a signer and a root, and the signer's own. Real chains have two or three; a longer one is refused.
pub const STIR_CHAIN_MAX: usize = 8;
/// Unknown sources whose behaviour is remembered. An attack under forged addresses fills it within seconds; then the
/// source that was quiet longest is forgotten, and is recognised anew when it comes again.
pub const GUARD_SOURCES_MAX: usize = 16_384;

/// Sources with wrong passwords. Only those that really read our challenge get here, so forged addresses cannot fill it;
/// the one that was quiet longest is forgotten.
pub const GUARD_LOCKS_MAX: usize = 4_096;

/// Sources that proved a password or that we had a dialog with. The one that was quiet longest is forgotten.
pub const GUARD_FRIENDS_MAX: usize = 4_096;

/// Contacts that we registered; there is one for each registration. Further ones are not recognised.
pub const GUARD_CONTACTS_MAX: usize = 4_096;

/// For how long the behaviour of an unknown source is looked at before the look begins anew.
pub const GUARD_LOOK: Duration = Duration::from_secs(60);

/// Different numbers that an unknown source may call within a look. People who misdial try two or three.
pub const GUARD_NUMBERS_MAX: usize = 6;

/// Requests of an unknown source within a look that may lead to nothing. A peer that asks for a sign of life every two
/// seconds stays below.
pub const GUARD_VAIN_MAX: u32 = 40;

/// Answers to all strangers together in a second, so that nobody can be flooded with them under a forged address.
/// Beyond, strangers get no answer.
pub const GUARD_ANSWERS_PER_SECOND: u32 = 100;

/// Lines in the log about strangers in a minute. Beyond, they are counted only.
pub const GUARD_LINES_PER_MINUTE: u32 = 60;

/// `Authorization` headers of one request that are read; a client answers one challenge of each realm.
pub const GUARD_ANSWERS_READ_MAX: usize = 4;

/// Protection domains that one answer challenges for. Trunks of further ones cannot be proved where they are mixed.
pub const GUARD_REALMS_MAX: usize = 4;

/// How long a nonce is good. A client that comes later is told so, and needs no new password.
pub const NONCE_AGE_MAX: Duration = Duration::from_secs(120);

/// Nonces in use at once, by clients with a right password. Beyond, the oldest count as stale.
pub const NONCES_MAX: usize = 4_096;
/// Challenges to one request that we answer: a proxy, the peer, a stale nonce for each, and two more. Beyond, the peer is
/// taken to ask for ever, and the request fails.
pub const SIP_CHALLENGES_MAX: usize = 6;

/// Protection domains of one dialog, and challenges read from one answer. Two are common; further ones are not answered.
pub const SIP_REALMS_MAX: usize = 8;

/// How long a gateway that asked for rest (Retry-After) is left alone at most; a longer wish is cut to this, for a typing
/// error there must not take a carrier away for a day.
pub const GATEWAY_REST_MAX: Duration = Duration::from_secs(900);

/// How long a gateway that is never asked how it is comes last after a failed call: a few calls need not wait for it.
pub const GATEWAY_REST: Duration = Duration::from_secs(30);

/// When a gateway that missed one question is asked again.
pub const GATEWAY_SECOND_LOOK: Duration = Duration::from_secs(2);

/// The longest pause between two questions to a gateway that is down, unless it is asked even more rarely when it is up.
pub const GATEWAY_PROBE_MAX: Duration = Duration::from_secs(120);

/// The first pause after every registrar failed; it doubles each time (RFC 5626 §4.5).
pub const REGISTER_PAUSE_MIN: Duration = Duration::from_secs(1);

/// The first pause after a registrar would not have us; providers lock out whoever insists.
pub const REGISTER_PAUSE_DENIED: Duration = Duration::from_secs(30);

/// The longest pause between two attempts to register.
pub const REGISTER_PAUSE_MAX: Duration = Duration::from_secs(600);

/// A binding is never renewed sooner than this, however short a registrar makes it.
pub const REGISTER_REFRESH_MIN: Duration = Duration::from_secs(5);

/// Questions to gateways and registrars that are out at once. More wait in their queue; at 5 s for one that keeps silent
/// this is 200 in a second even when everybody is dead.
pub const UPKEEP_AT_ONCE: usize = 1024;

/// First questions after the start in one second: a thousand trunks are asked within ten seconds, not at once.
pub const UPKEEP_STARTS_PER_SECOND: u32 = 100;

/// How long an answer to OPTIONS is waited for.
pub const PROBE_ANSWER_MAX: Duration = Duration::from_secs(5);

/// How long an answer to REGISTER is waited for, challenges included: 64·T1.
pub const REGISTER_ANSWER_MAX: Duration = Duration::from_secs(32);

/// How long we wait at the end for registrars to take our bindings away.
pub const LEAVE_MAX: Duration = Duration::from_secs(2);

/// What `ringback trunks` reads of a gateway's answer: ten thousand gateways take some 3 MB. A longer one is refused.
pub const TRUNKS_ANSWER_MAX: usize = 32 * 1024 * 1024;
/// How long a caller waits for a signer's certificate. Most are on our shelf already; one that takes longer serves the
/// next call, and this one goes on without a result.
pub const STIR_WAIT_MAX: Duration = Duration::from_secs(1);

/// How long a certificate is fetched at most. Then its address counts as out of reach for [`STIR_REFUSED_KEPT`].
pub const STIR_FETCH_MAX: Duration = Duration::from_secs(5);

/// Certificates being fetched at once. An honest hour needs a handful; further calls go on without a result.
pub const STIR_FETCHES_MAX: usize = 16;

/// Longest chain of certificates that we read: real ones have some 4 KiB. A longer answer is no certificate.
pub const STIR_CERTIFICATE_LEN_MAX: usize = 64 * 1024;

/// Certificates kept. A country has some hundred signers with a few certificates each; the one that would be stale first
/// makes room.
pub const STIR_CERTIFICATES_MAX: usize = 1024;

/// How long a certificate is kept whose server says nothing about it.
pub const STIR_KEPT: Duration = Duration::from_secs(3600);

/// How long a certificate is kept at least, so that a server cannot make us ask for every call.
pub const STIR_KEPT_MIN: Duration = Duration::from_secs(60);

/// How long a certificate is kept at most, so that a replaced one is seen within a day.
pub const STIR_KEPT_MAX: Duration = Duration::from_secs(24 * 3600);

/// How long an address that gave no good certificate is not asked again. Short, because it may be a passing trouble.
pub const STIR_REFUSED_KEPT: Duration = Duration::from_secs(30);

/// Messages of a dialog that its trace keeps from its beginning, and as many from its end; those between are counted. A
/// call has some ten; one with session timers and holds rarely two hundred.
pub const SIP_TRACE_HALF: usize = 100;

/// Messages in all traces together, some 100 MiB of long ones. Beyond, further ones are counted and not kept.
pub const SIP_TRACES_MAX: usize = 50_000;

/// Traces of dialogs that are over and that no call has taken: those of refused calls. The oldest makes room.
pub const SIP_TRACES_OVER_MAX: usize = 256;

/// Traces in the store; the oldest makes room. They hold numbers and names, so they are not kept for ever.
pub const STORED_TRACES_MAX: i64 = 10_000;

/// Browsers on calls at once. One thread carries them, at some 1.5 % of a core each with both ways encrypted; more are
/// answered 503.
pub const WEBRTC_PEERS_MAX: usize = 1_000;

/// Addresses of one browser. A laptop with every kind of network has some twenty; further ones are not looked at.
pub const WEBRTC_CANDIDATES_MAX: usize = 32;

/// How long a browser may take from its offer until it can be heard; then its call ends.
pub const WEBRTC_SETUP_MAX: Duration = Duration::from_secs(30);

/// How long a browser may be silent on the path it chose: four of its checks. A closed tab that could not say so, or a
/// network that is gone, ends the call then. RFC 7675 §5.1 allows 30 s.
pub const WEBRTC_CONSENT_MAX: Duration = Duration::from_secs(20);

/// Sources of audio that one browser may have used on a call; the oldest is forgotten.
pub const WEBRTC_SOURCES_MAX: usize = 4;

/// Forged packets with new sources, after which what was noted of them is thrown away.
pub const WEBRTC_FORGERIES_MAX: u32 = 64;

/// Orders and news waiting between the gateway and the thread of the browsers. When full, an order is refused, which its
/// caller is told; news wait within the thread.
pub const WEBRTC_ORDERS_MAX: usize = 256;

/// Longest token of a browser that is looked at; real ones have some 300 characters.
pub const WEBRTC_TOKEN_LEN_MAX: usize = 4 * 1024;

/// How far ahead a browser's token may end. Tokens are meant for one visit; a longer one is refused, because it would
/// better be a password.
pub const WEBRTC_TOKEN_AGE_MAX: Duration = Duration::from_secs(24 * 3600);

/// Longest number or name that a browser may call.
pub const WEBRTC_CALLED_LEN_MAX: usize = 128;

/// Addresses whose calls from browsers are counted. Beyond, those that did not call for a while are forgotten, and if there
/// are none, further ones may not call.
pub const WEBRTC_SOURCES_KNOWN_MAX: usize = 10_000;
