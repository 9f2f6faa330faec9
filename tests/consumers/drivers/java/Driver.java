import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import software.amazon.awssdk.awscore.retry.AwsRetryStrategy;
import software.amazon.awssdk.services.sts.StsClient;

/**
 * For each line on standard input: one request for the caller's identity by the AWS SDK for Java, at STS_ENDPOINT, with
 * one client and the SDK's default credential chain. Says the account, or why there was none.
 */
final class Driver {
    /** Made for the first line, and again after a line for which it could not be made. */
    private static StsClient client;

    public static void main(String[] arguments) throws IOException {
        var lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        var out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
        while (lines.readLine() != null) {
            out.println(answer());
        }
    }

    private static String answer() {
        try {
            if (client == null) {
                client = newClient();
            }
            return said("account", client.getCallerIdentity().account());
        } catch (RuntimeException error) {
            return said("error", chain(error));
        }
    }

    private static StsClient newClient() {
        return StsClient.builder()
                .endpointOverride(URI.create(System.getenv("STS_ENDPOINT")))
                .overrideConfiguration(settings -> settings.retryStrategy(AwsRetryStrategy.doNotRetry()))
                .build();
    }

    /** An error and its causes in one line. */
    private static String chain(Throwable error) {
        return Stream.iterate(error, each -> each != null, Throwable::getCause)
                .map(Throwable::toString)
                .collect(Collectors.joining(": "))
                .replaceAll("\\s+", " ");
    }

    /** JSON of a text without control characters but for those that it writes as spaces. */
    private static String said(String key, String text) {
        var quoted = text.replaceAll("\\p{Cntrl}", " ").replace("\\", "\\\\").replace("\"", "\\\"");
        return "{\"" + key + "\": \"" + quoted + "\"}";
    }
}
