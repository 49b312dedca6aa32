rule-json = This is not strict JSON: { $reason }
rule-epcis = EPCIS 2.0 does not allow this here: { $reason }
rule-event-id-used = This eventID was used before, for an event that says something else.
rule-nothing-to-correct = An errorDeclaration corrects an event of your own by its eventID; none is known here.
rule-unsignable = The event cannot be signed: { $reason }
rule-too-many-events = At most { $most } events in one document.
