import { Policy } from "holdfast"
Policy.make({ maxFrame: 10, outboxBytes: 5 })