/** `holdfast policy`: a policy file is checked, explained, and has a schema that says what `Policy.decode` says. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { Policy } from "../../src/index.ts"
import { main, run, tempDir } from "./support/kit.ts"

type Json = { readonly [key: string]: Json }

const policy = (...args: ReadonlyArray<string>) => run(process.execPath, [main, "policy", ...args])

const fileOf = (content: unknown): string => {
  const path = Path.join(tempDir(), "policy.json")
  Fs.writeFileSync(path, typeof content === "string" ? content : JSON.stringify(content))
  return path
}

const isRead = (input: unknown): boolean => Exit.isSuccess(Effect.runSyncExit(Policy.decode(input)))

/** As much of JSON Schema as the schema uses. */
const allows = (schema: Json, value: unknown): boolean => {
  const { anyOf, enum: choices, minimum, pattern, type } = schema as unknown as {
    readonly anyOf?: ReadonlyArray<Json>
    readonly enum?: ReadonlyArray<unknown>
    readonly minimum?: number
    readonly pattern?: string
    readonly type?: string
  }
  if (anyOf !== undefined) return anyOf.some((one) => allows(one, value))
  if (choices !== undefined) return choices.includes(value)
  switch (type) {
    case "string":
      return typeof value === "string" && (pattern === undefined || new RegExp(pattern).test(value))
    case "number":
    case "integer":
      return typeof value === "number" && (type === "number" || Number.isInteger(value)) &&
        value >= (minimum ?? -Infinity)
    case "boolean":
      return typeof value === "boolean"
    case "array":
      return Array.isArray(value) && value.every((item) => allows(schema["items"]!, item))
    default:
      throw new Error(`the schema has a type that is not known here: ${JSON.stringify(schema)}`)
  }
}

describe("policy", () => {
  it("prints what a file and flags come to, as data that is read again", async () => {
    const path = fileOf({ preset: "mobile", silence: "10m", $schema: "./policy.schema.json" })
    const { code, stderr, stdout } = await policy("--policy", path, "--max-frame", "2MiB")
    assert.deepStrictEqual({ code, stderr }, { code: 0, stderr: "" })
    const printed = JSON.parse(stdout) as unknown
    const read = Effect.runSync(Policy.decode(printed))
    const expected = Effect.runSync(Policy.decode({ preset: "mobile", silence: "10m", maxFrame: "2 MiB" }))
    assert.deepStrictEqual(Policy.encode(read), Policy.encode(expected))
  })

  it("--explain tells of every limit its value, where that is from, and what it does", async () => {
    const path = fileOf({ preset: "lan", idle: "5m" })
    const { code, stdout } = await policy("--policy", path, "--silence", "30s", "--explain")
    assert.strictEqual(code, 0)
    const rows = stdout.trimEnd().split("\n")
    assert.deepStrictEqual(rows.map((row) => row.split(" ")[0]), Object.keys(Policy.Policy.fields))
    const row = (name: string) => rows.find((row) => row.startsWith(`${name} `))!
    assert.match(row("silence"), /^silence +30s +--silence +\S/)
    assert.match(row("idle"), /^idle +5m +file +\S/)
    assert.match(row("drain"), /^drain +\S+ +preset lan +\S/)
    assert.notInclude(stdout, "`")
  })

  it("a wrong file is one line and exit code 1", async () => {
    for (
      const [content, says] of [[{ silence: "soon" }, "silence"], [{ silense: "1s" }, "silense"], ["{", "is not JSON"]]
    ) {
      const { code, stderr, stdout } = await policy("--policy", fileOf(content))
      assert.deepStrictEqual({ code, stdout }, { code: 1, stdout: "" })
      assert.match(stderr, /^holdfast: [^\n]+\n$/)
      assert.include(stderr, String(says))
    }
    const both = await policy("--schema", "--explain")
    assert.deepStrictEqual([both.code, both.stderr], [1, "holdfast: --schema and --explain: one at a time\n"])
  })

  it("--schema allows what is read, and nothing else", async () => {
    const { code, stdout } = await policy("--schema")
    assert.strictEqual(code, 0)
    const schema = JSON.parse(stdout) as Json
    const fields = schema["properties"]!
    assert.deepStrictEqual(Object.keys(fields), ["$schema", "preset", ...Object.keys(Policy.Policy.fields)])
    assert.deepStrictEqual(schema["additionalProperties"] as unknown, false)
    for (const [name, field] of Object.entries(fields)) {
      assert.isString(field["description"] as unknown, name)
      if (name !== "$schema") assert.isTrue(allows(field, field["default"]), `the default of ${name}`)
    }
    const durations = [
      "25s",
      "1m 30s",
      "500 ms",
      "25 seconds",
      "1 minute",
      "2 hours",
      "Infinity",
      "infinity",
      "1.5s",
      0,
      250
    ]
    const values: Readonly<Record<string, ReadonlyArray<unknown>>> = {
      silence: [...durations, "soon", "-1s", "1s and more", "", true, -1],
      inboxBytes: ["64 KiB", "1MiB", "10 MB", "65536", 65536, "many", -1, 1.5, "64 KX", true],
      inboxMessages: [1, 1024, 0.5, -1, "12", true],
      overflow: ["wait", "sideways", 1],
      noDelay: [true, false, "yes"],
      retryFactor: [2, 1.5, "2"],
      preset: ["lan", "wan"]
    }
    for (const [name, samples] of Object.entries(values)) {
      for (const value of samples) {
        assert.strictEqual(allows(fields[name]!, value), isRead({ [name]: value }), `${name}: ${JSON.stringify(value)}`)
      }
    }
  })
})
