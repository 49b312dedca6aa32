home-title = See where it comes from
home-lead = Sugar, rice, timber: every step from the plot to your hands.
home-code = The code on the pack
home-code-hint = The large type under the QR code, such as 09521234000013 / 8K3F…; an address can be pasted too.
home-look = Look it up
home-scan = Scan the QR code with a phone’s camera to open its page; there is nothing to install.
home-unreadable = This code cannot be read. Please compare it with the pack and type it again.
home-type-again = Type it again
verdict-complete = The record is complete
verdict-complete-means = Every step from the origin to here is recorded and stands in the public log.
verdict-partial = The record has gaps
verdict-partial-missing = { $count } lots upstream have no record of their origin.
verdict-partial-unsound = { $count ->
    [one] { $count } record was signed with a key that was not good any more.
   *[other] { $count } records were signed with a key that was not good any more.
}
verdict-partial-unlogged = { $count } records wait for the log.
verdict-partial-cut = There is more upstream than this page shows.
verdict-recalled = Recalled
verdict-recalled-means = Do not eat or use it; return it to where you bought it, as the notice says.
verdict-never = No such code
never-means = This code was never issued here.
never-why = It may be mistyped, or somebody may have forged the pack. Whether a code was issued is known without looking it up.
never-what-now = Please compare it with the pack and type it again. If it stays unknown, keep the pack and tell the shop or the authority.
fact-lot = Lot
fact-maker = Made by
fact-place = Place
fact-made = Date
fact-net = Net content
story-title = The story
your-scan = Your scan
story-earlier = { $count } earlier steps
quantity-in = In
quantity-out = Out
quantity-of = Quantity
closed-fields = { $count ->
    [one] { $count } field closed
   *[other] { $count } fields closed
}
step-late = reported late
step-loading = Loaded
step-unloading = Unloaded
step-departing = Departed
step-arriving = Arrived
step-conditions = Conditions measured
step-epoch = Merged into a bin
custody-derived = derived by the system
key-good = good, as the roster confirms
key-unconfirmed = signer’s key not yet confirmed
key-replaced = signer’s key was replaced
key-revoked = signer’s key is revoked
key-lost = signer’s key is reported lost
leaf-number = entry { $index } of the log
leaf-waiting = waiting for the log
load-title = What stands on this unit
load-means = { $count } lots stand on this unit; each has a story of its own.
proof-title = How to check it
proof-log = Log
proof-checkpoint = Checkpoint
proof-checkpoint-size = { $size } entries, { $at }
proof-witnesses = Witnesses
proof-no-witness = No witness has signed yet
proof-witness-missing = Not signed by:
proof-chain = Chain
proof-no-chain = Not on a chain yet
proof-anchor = { $chain }: the first { $size } entries, block { $block }, { $at }
proof-chain-means = The chain holds hashes of log heads only. A chain that one operator runs adds nothing.
proof-download = Download the proof
proof-how = Check it offline with suyuan-auditor verify; no connection to us is needed.
proof-waiting = This record waits for the log, usually for a second or two. Please reload.
proof-proves-title = What it proves
proof-proves = Who said this, when it was received, and that not a character has changed since.
proof-proves-not-title = What it does not prove
proof-proves-not = A true log can hold a false statement; and it proves the record, not the package in your hand. See who made each statement, and on what grounds.
report-title = Report a problem
report-what = What happened?
report-hint = Please leave out names and phone numbers.
report-send = Send
report-thanks = Thank you, we have it
report-kept = What you reported is kept; the maker, the operator and the authority can read it.
report-come-back = Keep this page’s address: the answer will stand here. Only who knows the address can read it.
report-answered = Answered
report-answer = Answer
report-open = open
report-closed = closed
scans = This code was scanned { $times ->
    [one] once
   *[other] { $times } times
}, first in { $month }.
scans-first = You are the first to scan this code.
label-title = Label
label-sheet = A4 sheet
role-operator = Operator
role-regulator = Authority
verdict-void = The code was voided
never-void-means = This code was issued and later taken back.
never-void = Reason: { $reason }
