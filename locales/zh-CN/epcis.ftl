rule-json = 不是严格的 JSON：{ $reason }
rule-epcis = 此处不符合 EPCIS 2.0：{ $reason }
rule-event-id-used = 该 eventID 已用于内容不同的事件。
rule-nothing-to-correct = errorDeclaration 只能按 eventID 更正本方的事件；这里没有该事件。
rule-unsignable = 该事件无法签名：{ $reason }
rule-too-many-events = 一份文件最多 { $most } 个事件。
