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
