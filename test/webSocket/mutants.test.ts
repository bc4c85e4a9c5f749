/** Each rule of the reader, taken out: the cases of the RFC notice. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { Reader } from "../../src/internal/webSocket/reader.ts"
import * as Mutants from "../support/mutants.ts"
import { type Case, cases, cuts } from "./support/cases.ts"
import * as Wire from "./support/wire.ts"

const room = "src/internal/webSocket"
const inHeader = (find: string, replace: string): Mutants.Mutant => ({ file: `${room}/header.ts`, find, replace })
const inReader = (find: string, replace: string): Mutants.Mutant => ({ file: `${room}/reader.ts`, find, replace })

const mutants: ReadonlyArray<readonly [string, Mutants.Mutant]> = [
  ["reserved bits are not looked at", inHeader("(first & reservedBits & ~(begins", "(0 & ~(begins")],
  ["reserved opcodes are let in", inHeader("(opcode > Opcode.binary && opcode < Opcode.close)", "false")],
  ["control frames may be fragmented", inHeader("if ((first & FIN) === 0) return", "if (false) return")],
  ["control frames may be long", inHeader("length > longestControl", "length > 127")],
  ["a message may begin inside another", inHeader("else if (begins && kind !== 0)", "else if (false)")],
  ["a fragment may continue nothing", inHeader("opcode === Opcode.continuation && kind === 0", "false")],
  ["masks are not asked for", inHeader("if ((second & MASK) === this.maskBit) return undefined", "return undefined")],
  ["lengths need not be minimal", inHeader("if (length <= (width === 2 ? 125 : 0xffff))", "if (false)")],
  ["the highest bit of a length is not looked at", inHeader("bytes[next]! > 0x7f", "false")],
  ["each fragment has the limit to itself", inHeader("begun.size + length", "length")],
  ["a short message has no limit", inReader("&& length <= limit)", ")")],
  [
    "a short message may begin inside another",
    inReader("header.come === 0 && this.kind === 0 &&", "header.come === 0 &&")
  ],
  ["the key begins anew in each chunk", inReader("this.key = advanceKey(key, to - pos)", "this.key = key")],
  [
    "text is looked at when all of it came",
    inReader("!check.write(chunk, from, to) ||", "!check.write(chunk, from, to) && isEnd ||")
  ],
  ["text may end inside a character", inReader("|| (isEnd && !check.isComplete)", "")],
  ["what follows a close frame is read", inReader("      this.finish()\n", "")],
  [
    "an empty frame at the end of a chunk waits for the next one",
    inReader("return length === 0 ? this.advance(chunk, next, end) : next", "return next")
  ],
  [
    "control frames count as bytes of the message",
    inReader("if ((first & 0x08) !== 0) this.controlCome = size", "if (false) this.controlCome = size")
  ],
  ["a half code is taken for one", {
    file: "src/internal/reasons/closeCodes.ts",
    find: "code >= 1007",
    replace: "code >= 1004"
  }],
  ["all codes from 2000 on are let in", {
    file: "src/internal/reasons/closeCodes.ts",
    find: "code >= 3000",
    replace: "code >= 2000"
  }],
  ["overlong forms are let in", {
    file: `${room}/utf8Check.ts`,
    find: "if (byte === 0xe0) low = 0xa0\n        else if",
    replace: "if"
  }],
  ["surrogates are let in", { file: `${room}/utf8Check.ts`, find: "else if (byte === 0xed) high = 0x9f", replace: "" }],
  ["U+110000 is let in", { file: `${room}/utf8Check.ts`, find: "else if (byte === 0xf4) high = 0x8f", replace: "" }],
  ["a word of a mask has its bytes turned round", {
    file: `${room}/frames.ts`,
    find: "const word = isLittle\n",
    replace: "const word = !isLittle\n"
  }]
]

const fails = (Class: typeof Reader) => ({ bytes, maxFrame, pending, role, story }: Case): boolean =>
  cuts.slice(0, 3).some(([, cut]) => {
    try {
      const read = Wire.ours(role, maxFrame, Wire.pieces(bytes, cut), Class)
      return JSON.stringify(read.story) !== JSON.stringify(story) || (pending !== undefined && read.pending !== pending)
    } catch {
      return true
    }
  })

describe("a reader that is broken is noticed", () => {
  // the long ones last: most mutants are found before
  const inOrder = cases.toSorted((a, b) => a.bytes.length - b.bytes.length)

  it.effect.each(mutants)("%s", ([, mutant]) =>
    Effect.gen(function*() {
      const module = yield* Mutants.load<{ readonly Reader: typeof Reader }>(mutant, `${room}/reader.ts`)
      assert.isDefined(inOrder.find(fails(module.Reader)))
    }))
})
