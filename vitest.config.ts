import { defineConfig } from "vitest/config"

const realTime = [
  "test/integration/**/*.test.ts",
  "test/node/**/*.test.ts",
  "test/cli/**/*.test.ts",
  "test/testing/SocketContract.test.ts",
  "test/testing/parity.test.ts",
  "test/README.test.ts"
]

const report = process.env.HOLDFAST_TEST_REPORT

export default defineConfig({
  // `import "holdfast"` means src, as it does in tsconfig.json
  ssr: { resolve: { conditions: ["module", "node", "development|production", "holdfast-source"] } },
  test: {
    reporters: report === undefined ? ["default"] : ["default", ["json", { outputFile: report }]],
    pool: "forks",
    testTimeout: 20_000,
    hookTimeout: 20_000,
    teardownTimeout: 10_000,
    dangerouslyIgnoreUnhandledErrors: false,
    projects: [
      {
        extends: true,
        test: {
          name: "unit",
          include: ["test/**/*.test.ts"],
          exclude: realTime,
          maxWorkers: 2,
          sequence: { groupOrder: 1 }
        }
      },
      {
        // real sockets and child processes, in real time: one file at a time, and after everything else
        extends: true,
        test: {
          name: "integration",
          include: realTime,
          fileParallelism: false,
          sequence: { groupOrder: 2 }
        }
      }
    ]
  }
})
