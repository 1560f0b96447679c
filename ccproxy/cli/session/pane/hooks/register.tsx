// A pane (/ccproxy) and a line above the prompt, in sessions of `ccproxy run --pane`.
// Both show the output of commands that `run` stores in the session's environment.
import type { Register } from 'claude-code'

const PANE = 'ccproxy'
const REFRESH_MS = 5000
const SESSION = 'printf \'{"session_id": "%s"}\' "$CLAUDE_CODE_SESSION_ID" | eval "$CCPROXY_PANE_SESSION"'
const FLEET = 'eval "$CCPROXY_PANE_FLEET" 2>&1'

let session: string[] = []
let fleet: string[] = []

async function output($, command) {
  try {
    const env = await $.process.hookEnv() // names the session
    const done = await $.process.run(['sh', '-c', command], { env })
    return done.stdout.split('\n').filter(line => line !== '')
  } catch (error) {
    return ['ccproxy: ' + error]
  }
}

async function refresh($) {
  session = await output($, SESSION)
}

export const register: Register = on => {
  on('session.start', async ($, event, next) => {
    await $.command.register({ name: 'ccproxy', description: 'Show who answers this session, and the fleet' })
    await refresh($)
    $.clock.every(REFRESH_MS, () => refresh($))
    return next(event)
  })
  on('command.run', { command: 'ccproxy' }, async $ => {
    await refresh($)
    fleet = await output($, FLEET)
    await $.ui.open({ id: PANE, title: 'ccproxy' })
    return { text: session.join('\n') }
  })
  on('ui.render', { component: 'Pane', requestId: PANE }, async ($, event) => {
    const { Box, Text } = $.ui.resolve(event)
    return (
      <Box flexDirection="column">
        <Text bold>This session</Text>
        <Text>{session.join('\n')}</Text>
        <Text bold>The fleet</Text>
        <Text>{fleet.join('\n')}</Text>
      </Box>
    )
  })
  on('ui.render', { component: 'AbovePrompt' }, async ($, event, next) => {
    const { Box, Text } = $.ui.resolve(event)
    return (<Box><Text dimColor>{session.slice(0, 2).join('  ')}</Text></Box>)
  })
}
