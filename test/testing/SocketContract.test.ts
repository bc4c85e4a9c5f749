import { describe, it } from "@effect/vitest"
import { SocketContract } from "../../src/testing/index.ts"
import * as Transports from "./support/transports.ts"

describe.each([...Transports.holdfast, ...Transports.effect])("$name", (transport) => {
  for (const check of SocketContract.checksFor(transport)) it.live(check.name, () => check.run(transport))
})
