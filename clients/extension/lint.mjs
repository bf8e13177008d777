// Has Mozilla's linter, which is what `web-ext lint` runs, look at both store packages. Offline.
//
//   node lint.mjs [DIR]    of DIR instead of dist; exit code 1 where it finds what is not expected

import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import linter from 'addons-linter'

const out = resolve(process.argv[2] ?? join(dirname(fileURLToPath(import.meta.url)), 'dist'))

/** What is expected, by its code, and why it is as it has to be. All else is a finding, warnings too. */
const EVERYWHERE = {
  UNSAFE_VAR_ASSIGNMENT: 'the property of Preact that sets markup, which no view of ours uses',
}
const EXPECTED = {
  firefox: EVERYWHERE,
  chrome: {
    ...EVERYWHERE,
    BACKGROUND_SERVICE_WORKER_NOFALLBACK: 'Chromium has no other background than a worker',
    ADDON_ID_REQUIRED: 'an id of Firefox',
    MISSING_DATA_COLLECTION_PERMISSIONS: 'a key of Firefox',
  },
}

let found = 0
for (const [browser, expected] of Object.entries(EXPECTED)) {
  const file = join(out, `hybridgw-${browser}.zip`)
  const { errors, warnings, notices } = await linter
    .createInstance({ config: { _: [file], output: 'none', logLevel: 'fatal', selfHosted: false, boring: true } })
    .run()
  for (const { _type, code, message, description, file: where = '', line = '' } of [...errors, ...warnings, ...notices]) {
    if (code in expected) continue
    found += 1
    process.stdout.write(`${browser}: ${_type} ${code} ${where}:${line} ${message} ${description}\n`)
  }
}
process.exit(found === 0 ? 0 : 1)
