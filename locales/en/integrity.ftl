integrity-title = Does the ledger still fit?
integrity-means = From time to time this server reads entries of the ledger drawn by lot, and the newest ones, as a user who can only read. Each must be the hash of what was signed, by a key that was good; every column kept of it must say the same; and it must lead up to the signed head of the log.
integrity-fits = Everything that was looked at fits
integrity-misfits = { $count ->
    [one] { $count } thing does not fit
   *[other] { $count } things do not fit
}
integrity-when = Last checked
integrity-entries = Entries
integrity-of = { $entries } of { $logged }
integrity-first = The first that does not fit
integrity-none-yet = Nothing was checked yet.
integrity-not-here = This server does not check by itself: the operator has not given it the read-only access for it.
integrity-stopped = This server does not check by itself any more; this is what was found last.
integrity-own-title = Check it yourself
integrity-own-word = This is the operator’s own word about the operator’s own database. Do not take it: look yourself.
integrity-anybody = Anybody: copy the log and keep checking that it only grows, against its witnesses and chains.
integrity-authority = An authority with read-only access: derive the whole ledger again, and the balances with it.
integrity-trust = The trust file as this server would have it; compare its keys with those that the authority publishes.
