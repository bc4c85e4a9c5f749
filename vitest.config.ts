import { fileURLToPath } from "node:url"
import { defineConfig } from "vitest/config"

// real sockets and child processes, in real time
const realTime = [
  "test/integration/**/*.test.ts",
  "test/node/**/*.test.ts",
  "test/cli/**/*.test.ts",
  "test/codecs/servers.test.ts",
  "test/rpc/**/*.test.ts",
  "test/runtimes/**/*.test.ts",
  "test/testing/SocketContract.test.ts",
  "test/testing/parity.test.ts",
  "test/README.test.ts",
  "test/examples/{browser,mqtt,nats,proxies,redis,rpc}/*.test.ts",
  "test/examples/history/{history,processes}.test.ts",
  "test/examples/{chat/page,main}.test.ts"
]

// those that look at what is left in their process: each in one of its own
const apart = ["test/integration/{deadLink,kernel,leaks,limits,stall}.test.ts"]

// those that measure time and processors: what runs beside them is measured too
const measured = ["test/integration/slowPeers.test.ts"]

// those without a connection: `npm run test:fibers` would run them a second time
const withoutConnections = [
  "test/{Backoff,Codec,ConnectionError,Policy,architecture,hotPath}.test.ts",
  "test/{internal,support}/**/*.test.ts",
  "test/webSocket/{mutants,reader,socket,writer}.test.ts",
  "test/simulation/{scale,simulate,storm}.test.ts",
  "test/testing/{Chaos,Simulation,TestNetwork,contractMutants,simulate}.test.ts",
  "test/testing/TestNetwork{Contract,Example,Faults,Hosts}.test.ts"
]

// those with tests that do more in `npm run test:long`
const long = [
  "test/{Client,ConnectionPool,Dispatcher,Heartbeat,History,HistoryStorm,Metrics,Registry,Request,Server}.test.ts",
  "test/bench/stopping.test.ts",
  "test/cli/{progress,top,workers}.test.ts",
  "test/examples/{history/fleet,history/processes,main}.test.ts",
  "test/node/{admin,stopping,workersListeners}.test.ts",
  "test/rpc/suite.test.ts",
  "test/fleet/simulation.test.ts",
  "test/runtimes/runtimes.test.ts",
  "test/integration/{agreement,deadLink,deflate,deflatePeers,engineFaults,natsEngine,natsHistory}.test.ts",
  "test/integration/{package,reconnect,redis,redisEngine,redisHistory}.test.ts",
  "test/simulation/{storm,swarm}.test.ts",
  "test/storms/*.test.ts",
  "test/testing/TestNetworkHoldfast.test.ts"
]

// the same, measured: one file at a time, in a process of its own, after the others
const longMeasured = ["test/leaks.test.ts", "test/internal/queues.test.ts"]

// goals that are not held in each run yet, and on a quiet machine alone: `npm run test:goals`
const goals = ["test/integration/{fairness,memory}.test.ts", "test/fleet/simulation.test.ts"]

// a real browser, for minutes: `npm run test:browser`
const browser = ["test/browser/**/*.test.ts"]

const { HOLDFAST_BROWSER, HOLDFAST_GOALS, HOLDFAST_LONG, HOLDFAST_SHORT_CUTS, HOLDFAST_TEST_REPORT: report } =
  process.env

// the code that V8 makes of a file is kept for the next process with it: the command is started some hundred times
process.env.NODE_COMPILE_CACHE ??= fileURLToPath(new URL("node_modules/.cache/v8", import.meta.url))

// on two processors: two more work while others wait for a peer or a process
const maxWorkers = 4

// makes one file of the command, which its tests start
const globalSetup = "test/cli/support/bundle.ts"

export default defineConfig({
  // `import "holdfast"` means src, as it does in tsconfig.json
  ssr: { resolve: { conditions: ["module", "node", "development|production", "holdfast-source"] } },
  test: {
    reporters: report === undefined ? ["default"] : ["default", ["json", { outputFile: report }]],
    pool: "forks",
    // files share nothing that changes: a worker imports Effect and src once, and not for each file
    isolate: false,
    tags: [{ name: "long", description: "does more in `npm run test:long`" }],
    testTimeout: 20_000,
    hookTimeout: 20_000,
    teardownTimeout: 10_000,
    dangerouslyIgnoreUnhandledErrors: false,
    projects: HOLDFAST_BROWSER === "on"
      ? [{ extends: true, test: { name: "browser", include: browser, globalSetup, maxWorkers: 2 } }]
      : HOLDFAST_LONG === "on"
      ? HOLDFAST_GOALS === "on"
        ? [{ extends: true, test: { name: "goals", include: goals, globalSetup, fileParallelism: false } }]
        : [
          {
            extends: true,
            test: { name: "long", include: long, globalSetup, maxWorkers, sequence: { groupOrder: 1 } }
          },
          {
            extends: true,
            test: {
              name: "long, measured",
              include: longMeasured,
              globalSetup,
              fileParallelism: false,
              sequence: { groupOrder: 2 }
            }
          }
        ]
      : [
        {
          extends: true,
          test: {
            name: "unit",
            include: ["test/**/*.test.ts"],
            exclude: [...realTime, ...browser, ...(HOLDFAST_SHORT_CUTS === "off" ? withoutConnections : [])],
            maxWorkers,
            sequence: { groupOrder: 1 }
          }
        },
        {
          // they wait for peers and processes most of the time
          extends: true,
          test: {
            name: "integration",
            include: realTime,
            exclude: [...apart, ...measured],
            globalSetup,
            maxWorkers,
            sequence: { groupOrder: 1 }
          }
        },
        {
          extends: true,
          test: { name: "apart", include: apart, globalSetup, isolate: true, maxWorkers, sequence: { groupOrder: 1 } }
        },
        {
          // after everything else
          extends: true,
          test: {
            name: "measured",
            include: measured,
            globalSetup,
            isolate: true,
            fileParallelism: false,
            sequence: { groupOrder: 2 }
          }
        }
      ]
  }
})
