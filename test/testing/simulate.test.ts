/** `it.simulate`, as somebody who uses it sees it. */
import { assert, describe, it } from "@effect/vitest"
import { execFile } from "node:child_process"
import { mkdtemp, readFile, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { it as simulated } from "../../src/testing/vitest.ts"

const root = fileURLToPath(new URL("../..", import.meta.url))

interface Report {
  readonly tests: Map<string, { readonly status: string; readonly message: string }>
  readonly printed: string
}

interface Written {
  readonly testResults: ReadonlyArray<{
    readonly assertionResults: ReadonlyArray<{
      readonly title: string
      readonly status: string
      readonly failureMessages: ReadonlyArray<string>
    }>
  }>
}

/** Runs the fixture, or one test of it, in a vitest of its own. */
const vitest = async (environment: Record<string, string> = {}, test = "."): Promise<Report> => {
  const folder = await mkdtemp(join(tmpdir(), "holdfast-simulate-"))
  try {
    const file = join(folder, "report.json")
    const { VITEST: _, HOLDFAST_SEED: __, HOLDFAST_SEEDS: ___, ...env } = process.env
    const printed = await new Promise<string>((resolve) =>
      execFile(
        process.execPath,
        [
          join(dirname(fileURLToPath(import.meta.resolve("vitest/package.json"))), "vitest.mjs"),
          "run",
          "--config=test/testing/fixtures/vitest.config.ts",
          "--reporter=json",
          "--reporter=default",
          `--outputFile=${file}`,
          `--testNamePattern=${test}`
        ],
        { cwd: root, env: { ...env, ...environment, NODE_OPTIONS: "" }, maxBuffer: 1 << 26 },
        (_, stdout, stderr) => resolve(stdout + stderr)
      )
    )
    const report = JSON.parse(await readFile(file, "utf8")) as Written
    const tests = report.testResults.flatMap(({ assertionResults }) => assertionResults)
    return {
      tests: new Map(
        tests.map(({ failureMessages, status, title }) => [title, { status, message: failureMessages.join("\n") }])
      ),
      printed
    }
  } finally {
    await rm(folder, { recursive: true })
  }
}

describe("it.simulate", () => {
  simulated.simulate("runs here as well", { seeds: 3, storm: "1 minute" }, (world) => world.storm)

  it("passes, fails with the seed and the network, and tells when two runs of a seed differ", async () => {
    const { printed, tests } = await vitest()
    assert.strictEqual(tests.get("passes")?.status, "passed", tests.get("passes")?.message)
    assert.strictEqual(tests.get("has the rest of it, too")?.status, "passed")
    assert.match(tests.get("is left out")?.status ?? "", /pending|skipped/)

    const failed = tests.get("fails for one seed")!
    assert.strictEqual(failed.status, "failed")
    for (const part of ["seed unlucky", "as planned", "server of the test:7", "HOLDFAST_SEED=unlucky"]) {
      assert.include(failed.message, part)
    }
    // the first seed twice, and none after the one that fails; the test before it ran 5 seeds and its first one again
    const ran = Array.from(printed.matchAll(/ran (\w+) after (\d+)/g), ([, seed, runs]) => [seed, runs])
    assert.deepStrictEqual(ran, [["3", "6"], ["3", "6"], ["unlucky", "6"]])

    const different = tests.get("is two different runs")!
    assert.strictEqual(different.status, "failed")
    assert.include(different.message, "seed 1 was two different runs")
  }, 60_000)

  it("HOLDFAST_SEED runs one seed alone", async () => {
    const test = "fails for one seed"
    const one = (await vitest({ HOLDFAST_SEED: "4" }, test)).tests
    assert.strictEqual(one.get(test)?.status, "passed")
    const unlucky = (await vitest({ HOLDFAST_SEED: "unlucky" }, test)).tests.get(test)!
    assert.include(unlucky.message, "as planned")
  }, 60_000)

  it("HOLDFAST_SEEDS that is no number of runs is named, with what it is", { timeout: 30_000 }, async () => {
    for (const seeds of ["abc", "0"]) {
      const { printed } = await vitest({ HOLDFAST_SEEDS: seeds })
      assert.include(printed, `HOLDFAST_SEEDS is a number of runs, at least 1, and not ${seeds}`)
    }
  })

  it("seeds that make no sense are named", () => {
    for (const seeds of [0, -1, 1.5, Number.NaN, []]) {
      assert.throws(() => simulated.simulate("no", { seeds }, (world) => world.storm), /seeds/)
    }
  })
})
