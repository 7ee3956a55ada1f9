//! Every bound in the house, with its reason and what happens when it is reached.

use std::time::Duration;

/// Longest address we dial or store. SIP URIs of carriers stay below 100; longer is refused as no address.
pub const ADDRESS_LEN_MAX: usize = 256;

/// Variables on one call. A lookup may bring a few dozen; further ones are not set and the run says so.
pub const VARS_MAX: usize = 256;
/// Longest variable name; longer names are not set.
pub const VAR_NAME_LEN_MAX: usize = 128;
/// Longest variable value, written as JSON. An order list fits; a longer value is not set and the run says so.
pub const VAR_LEN_MAX: usize = 16 * 1024;

/// Events waiting for one call's task. A call makes a handful a second, so a full mailbox is a fault or an attack:
/// statistics are dropped and counted, digits and endings wait for room.
pub const CALL_MAILBOX: usize = 256;

/// Audio from an agent waiting to be played. Vendors send a whole answer at once; two minutes covers the longest we
/// have seen. When full, we stop reading the WebSocket.
pub const AGENT_AUDIO_MAX: Duration = Duration::from_secs(120);
/// Audio from the caller waiting for an agent's socket. A socket that stalls longer has lost the turn anyway:
/// the oldest is dropped and counted.
pub const CALLER_AUDIO_MAX: Duration = Duration::from_secs(2);

/// Legs on one call over its whole life: caller, agent, and every transfer target tried. More are refused.
pub const LEGS_MAX: usize = 64;
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
/// Longest arguments an agent may give to a tool, as JSON text; longer ones are answered with an error.
pub const TOOL_ARGUMENTS_MAX: usize = 16 * 1024;
/// Longest result given back to an agent; the rest is cut off and says so.
pub const TOOL_RESULT_MAX: usize = 8 * 1024;

/// How long a call may last when its agent says nothing else.
pub const CALL_DURATION_MAX: Duration = Duration::from_secs(1800);
/// How long a caller may ring: the ring budget of any agent is cut to this, below the 10 s at which carriers re-route.
pub const RING_BUDGET_MAX: Duration = Duration::from_secs(8);

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
